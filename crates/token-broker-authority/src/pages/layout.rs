//! The frame of every page, and its recurring parts.

use maud::{DOCTYPE, Markup, html};

use super::{Site, outside::Outside, style::style_path};

/// Renders a page: one column, one heading, the broker's name above and its host below.
pub(super) fn layout(site: &Site, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " – " (site.name()) }
                link rel="stylesheet" href=(site.path(style_path()));
            }
            body {
                header { (mark()) span { (site.name()) } }
                main { (body) }
                footer { (site.host()) }
            }
        }
    }
}

/// Renders the form that signs out, as one button that looks like a link.
pub(super) fn sign_out_form(site: &Site, label: &str, csrf: &str, pending: Option<&str>) -> Markup {
    html! {
        form.inline method="post" action=(site.path("/sign-out")) {
            (hidden("csrf", csrf))
            @if let Some(pending) = pending { (hidden("continue", pending)) }
            button.link type="submit" { (label) }
        }
    }
}

/// Renders a hidden field.
pub(super) fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

/// Renders a message above a form that was not accepted. A screen reader announces it.
pub(super) fn problem(id: &str, text: &Markup) -> Markup {
    html! { p.note.bad id=(id) role="alert" { (warning_icon()) span { (text) } } }
}

/// Renders a warning.
pub(super) fn warning(text: &Markup) -> Markup {
    html! { p.note.warn { (warning_icon()) span { strong { "Note: " } (text) } } }
}

/// Renders two tiles with the initials of an application and of what it uses.
pub(super) fn tiles(from: &str, to: &str) -> Markup {
    html! {
        div.tiles aria-hidden="true" {
            span { (initial(from)) }
            (icon("M3 10h13M11 5l5 5-5 5"))
            span { (initial(to)) }
        }
    }
}

pub(super) fn check_icon() -> Markup {
    icon("M4 10.5l4 4 8-9")
}

pub(super) fn never_icon() -> Markup {
    icon("M5 5l10 10M15 5L5 15")
}

fn warning_icon() -> Markup {
    icon("M10 3l8 14H2zM10 8v4M10 14.5v.5")
}

fn icon(path: &str) -> Markup {
    html! { svg viewBox="0 0 20 20" aria-hidden="true" { path d=(path) {} } }
}

/// Renders the broker's mark: a shield with a keyhole.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" aria-hidden="true" {
            path d="M12 2l8 3v6c0 5-3.4 9.2-8 11-4.6-1.8-8-6-8-11V5z" {}
            path.hole d="M12 8a2 2 0 0 1 1 3.7V15h-2v-3.3A2 2 0 0 1 12 8z" {}
        }
    }
}

/// Returns the first letter or digit of a name.
fn initial(name: &str) -> String {
    let first = Outside(name).to_text().chars().find(|character| character.is_alphanumeric());
    first.map_or_else(|| "?".into(), |first| first.to_uppercase().collect())
}
