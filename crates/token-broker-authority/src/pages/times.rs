//! Times in words.

use std::time::Duration;

use maud::{Markup, html};
use tower_token_broker::clock::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Renders a duration in its largest whole unit, rounded down: "10 minutes".
pub(super) fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        DAY.. => (seconds / DAY, "day"),
        HOUR.. => (seconds / HOUR, "hour"),
        MINUTE.. => (seconds / MINUTE, "minute"),
        _ => (seconds, "second"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// Renders a duration in its largest unit, rounded up, so that a wait is never too short.
pub(super) fn words_at_least(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let unit = match seconds {
        DAY.. => DAY,
        HOUR.. => HOUR,
        MINUTE.. => MINUTE,
        _ => 1,
    };
    words(Duration::from_secs(seconds.max(1).div_ceil(unit) * unit))
}

/// Renders a time in the past, relative to now: "10 minutes ago", with the exact time as its title.
pub(super) fn ago(now: Timestamp, then: Timestamp) -> Markup {
    let passed = then.until(now);
    let text = if passed.as_secs() < MINUTE {
        "just now".into()
    } else {
        format!("{} ago", words(passed))
    };
    time(then, &text)
}

/// Renders a time in the future, relative to now: "in 3 hours", with the exact time as its title.
pub(super) fn from_now(now: Timestamp, then: Timestamp) -> Markup {
    let left = now.until(then);
    let text = if left.is_zero() { "now".into() } else { format!("in {}", words(left)) };
    time(then, &text)
}

fn time(at: Timestamp, text: &str) -> Markup {
    html! { time datetime=(at.to_string()) title=(exact(at)) { (text) } }
}

/// Renders a time to the minute: "2026-11-30 16:29 UTC".
fn exact(at: Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", time.get(..5).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        for (seconds, text, at_least) in [
            (0, "0 seconds", "1 second"),
            (1, "1 second", "1 second"),
            (59, "59 seconds", "59 seconds"),
            (60, "1 minute", "1 minute"),
            (61, "1 minute", "2 minutes"),
            (3_600, "1 hour", "1 hour"),
            (3_601, "1 hour", "2 hours"),
            (86_400, "1 day", "1 day"),
            (30 * 86_400, "30 days", "30 days"),
        ] {
            assert_eq!(words(Duration::from_secs(seconds)), text);
            assert_eq!(words_at_least(Duration::from_secs(seconds)), at_least);
        }
    }

    #[test]
    fn relative_times_have_the_exact_one_as_title() {
        let now = Timestamp::from_unix_seconds(1_795_500_000);
        let then = now.minus(Duration::from_secs(600));
        assert_eq!(
            ago(now, then).into_string(),
            "<time datetime=\"2026-11-24T05:50:00.000Z\" title=\"2026-11-24 05:50 UTC\">10 minutes \
             ago</time>"
        );
        let of = |markup: Markup| {
            let text = markup.into_string();
            text.split(['<', '>']).nth(2).unwrap_or_default().to_owned()
        };
        assert_eq!(of(ago(now, now)), "just now");
        assert_eq!(of(ago(now, now.plus(Duration::from_secs(5)))), "just now");
        assert_eq!(of(from_now(now, now.plus(Duration::from_secs(7200)))), "in 2 hours");
        assert_eq!(of(from_now(now, then)), "now");
    }
}
