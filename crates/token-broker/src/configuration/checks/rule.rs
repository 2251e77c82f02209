//! The rules of a server.

use std::collections::HashSet;

use tower_token_broker::scope_filter::tools;

use super::{
    super::{
        document::{Rule as Section, Server},
        key::{Key, Located},
        model::Rule,
    },
    Checks,
};

impl Checks<'_> {
    pub(super) fn rules(&mut self, rules: &Key<Vec<Located<Section>>>) -> Vec<Rule> {
        rules.elements().iter().map(|rule| self.rule(rule)).collect()
    }

    pub(super) fn denials(&mut self, rules: &Key<Vec<Located<Section>>>) -> Vec<Rule> {
        for rule in rules.elements() {
            let keys = [
                ("scope", rule.value.scope.at()),
                ("upstream_scopes", rule.value.upstream_scopes.at()),
            ];
            for (key, at) in keys.iter().filter(|(_, at)| at.is_some()) {
                let problem = format!("`{key}` does not apply to `[[server.deny]]`");
                let remedy = "remove it: a rule that denies does so whatever the scopes are";
                self.fail(*at, problem, remedy);
            }
        }
        self.rules(rules)
    }

    fn rule(&mut self, rule: &Located<Section>) -> Rule {
        let section = &rule.value;
        let names = [&section.tools, &section.resources, &section.prompts, &section.methods];
        if names.iter().all(|names| names.elements().is_empty()) {
            let problem = "this rule is about nothing".to_owned();
            let remedy = "add at least one of `tools`, `resources`, `prompts` and `methods`, such \
                          as `tools = [\"get_*\"]`";
            let keys = ["tools", "resources", "prompts", "methods"];
            self.missing(rule.at, &keys, problem, remedy);
        }
        let upstream_scopes = self.scopes("upstream_scopes", &section.upstream_scopes);
        Rule {
            id: self.text("id", &section.id),
            tools: self.texts("tools", &section.tools),
            resources: self.texts("resources", &section.resources),
            prompts: self.texts("prompts", &section.prompts),
            methods: self.methods(&section.methods),
            scope: self.scope(&section.scope),
            upstream_scopes: (!upstream_scopes.is_empty()).then(|| upstream_scopes.to_string()),
            groups: self.texts("groups", &section.groups),
        }
    }

    /// Returns the methods. Those that tools, resources and prompts are called by are judged by
    /// their names, so that a rule about the method would have no effect.
    fn methods(&mut self, methods: &Key<Vec<Located<String>>>) -> Vec<String> {
        for method in methods.elements() {
            let key = match method.value.as_str() {
                "tools/call" | "tools/list" => "tools",
                "resources/read" | "resources/list" | "resources/templates/list" => "resources",
                "prompts/get" | "prompts/list" => "prompts",
                _ => continue,
            };
            let problem = format!("this method is judged by the names in `{key}`");
            self.fail(method.at, problem, format!("remove it, and set `{key}`"));
        }
        self.texts("methods", methods)
    }

    fn scope(&mut self, scope: &Key<String>) -> Option<String> {
        let text = self.text("scope", scope)?;
        if tools([]).try_with_scope(&text).is_ok() {
            return Some(text);
        }
        let remedy = "write scopes separated by one space, without quotation marks and backslashes";
        self.fail(scope.at(), "`scope` is not a list of scopes", remedy);
        None
    }

    /// Reports two rules of one ID: a record names the rule by it.
    pub(super) fn rule_ids(&mut self, server: &Server) {
        let mut ids = HashSet::new();
        for rule in server.allow.elements().iter().chain(server.deny.elements()) {
            if let Some(id) = rule.value.id.as_located()
                && !ids.insert(id.value.as_str())
            {
                self.fail(id.at, "this `id` occurs twice", "give each rule of a server its own");
            }
        }
    }
}
