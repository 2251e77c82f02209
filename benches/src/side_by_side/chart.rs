//! The chart of docs/performance.md: CPU time per request as a ratio to the bare proxy, one group
//! of bars per case.

use std::fmt::Write as _;

use super::report::Report;

/// Variants in drawing order, with colours that differ from their neighbours on white and on black.
const VARIANTS: [(&str, &str); 4] = [
    ("four-noop-layers", "#8a8f98"),
    ("stack-sink-drops", "#2f8fd0"),
    ("stack-durable", "#d9822b"),
    ("haproxy-jwt-verify", "#3f9f5f"),
];
const LEFT: f64 = 190.0;
const RIGHT: f64 = 70.0;
const WIDTH: f64 = 860.0;
const BAR: f64 = 13.0;
const GAP: f64 = 14.0;
const TOP: f64 = 78.0;

pub(crate) fn svg(report: &Report) -> String {
    let cases: Vec<_> =
        report.cases.iter().filter(|case| !case.name.starts_with("growth")).collect();
    let most = cases
        .iter()
        .flat_map(|case| &case.variants)
        .map(|variant| variant.cpu_ratio.median)
        .fold(2.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / most;
    let (mut bars, mut y) = (String::new(), TOP);
    for case in &cases {
        let top = y;
        for (name, colour) in VARIANTS {
            let Some(variant) = case.variants.iter().find(|variant| variant.name == name) else {
                continue;
            };
            let (ratio, middle) = (&variant.cpu_ratio, y + BAR / 2.0);
            let (length, end) = (ratio.median * scale, LEFT + ratio.median * scale + 6.0);
            // Writing to a String cannot fail.
            write!(
                bars,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" \
                 fill=\"{colour}\"><title>{} {name}: {:.2} ({:.2}..{:.2})</title></rect>\n\
                 <text x=\"{end:.1}\" y=\"{:.1}\" class=\"small\">{:.2}</text>\n",
                case.name,
                ratio.median,
                ratio.least,
                ratio.most,
                middle + 4.0,
                ratio.median
            )
            .unwrap_or_default();
            y += BAR + 2.0;
        }
        let middle = f64::midpoint(top, y) + 3.0;
        let label = LEFT - 10.0;
        writeln!(
            bars,
            "<text x=\"{label}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
            case.name
        )
        .unwrap_or_default();
        y += GAP;
    }
    let (height, one) = (y + 10.0, LEFT + scale);
    let mut legend = String::new();
    for (place, (name, colour)) in VARIANTS.iter().enumerate() {
        let x = LEFT + place as f64 * 160.0;
        let text = x + 17.0;
        writeln!(
            legend,
            "<rect x=\"{x}\" y=\"40\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{text}\" y=\"50\" class=\"small\">{name}</text>"
        )
        .unwrap_or_default();
    }
    // No background, and text in a grey that is readable on white and on black.
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         role=\"img\">\n\
         <title>CPU time per request, as a ratio to the bare proxy</title>\n\
         <style>text {{ font: 13px sans-serif; fill: #6b7280 }} .small {{ font-size: 11px }} \
         .head {{ font-weight: bold }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #b6bcc6 }} }}</style>\n\
         <text x=\"{LEFT}\" y=\"22\" class=\"head\">CPU time per request, as a ratio to the bare \
         proxy (line: 1)</text>\n\
         {legend}{bars}<line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{:.0}\" y2=\"{:.0}\" \
         stroke=\"#6b7280\" stroke-dasharray=\"4 3\"/>\n</svg>\n",
        TOP - 8.0,
        y - GAP + 6.0,
    )
}
