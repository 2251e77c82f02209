//! The policy of a server: the rules of its configuration.

use tower_token_broker::scope_filter::{
    Rule as Judged, RuleError, Rules, methods, prompts, resources, tools,
};

use crate::configuration::{Rule, Server};

/// Returns the rules of a server.
///
/// # Errors
/// A scope is not one.
pub(super) fn rules(server: &Server) -> Result<Rules, RuleError> {
    let mut all = Rules::new();
    for rule in &server.allow {
        for judged in judged(rule)? {
            all = all.allow(judged);
        }
    }
    for rule in &server.deny {
        for judged in judged(rule)? {
            all = all.deny(judged);
        }
    }
    Ok(all)
}

/// Returns one rule of the layers for each kind of name, and for each group.
fn judged(rule: &Rule) -> Result<Vec<Judged>, RuleError> {
    let mut of_names = Vec::new();
    type New = fn(&[String]) -> Judged;
    let kinds: [(&[String], New); 4] = [
        (&rule.tools, |names| tools(names.iter().map(String::as_str))),
        (&rule.resources, |names| resources(names.iter().map(String::as_str))),
        (&rule.prompts, |names| prompts(names.iter().map(String::as_str))),
        (&rule.methods, |names| methods(names.iter().map(String::as_str))),
    ];
    for (names, new) in kinds {
        if names.is_empty() {
            continue;
        }
        let mut judged = new(names);
        if let Some(id) = &rule.id {
            judged = judged.with_id(id);
        }
        if let Some(scope) = &rule.scope {
            judged = judged.try_with_scope(scope)?;
        }
        if let Some(scopes) = &rule.upstream_scopes {
            judged = judged.try_with_upstream_scopes(scopes)?;
        }
        of_names.push(judged);
    }
    if rule.groups.is_empty() {
        return Ok(of_names);
    }
    let of_groups = |judged: Judged| {
        rule.groups.iter().map(move |group| judged.clone().for_group(group)).collect::<Vec<_>>()
    };
    Ok(of_names.into_iter().flat_map(of_groups).collect())
}
