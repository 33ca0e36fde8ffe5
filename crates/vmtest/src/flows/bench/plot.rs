//! Bars of what is added, on a logarithmic scale: from a thousandth of an operation to a thousand of them.

use std::path::Path;

use otf_artifact::diagnostic::Diagnostic;
use plotters::prelude::*;

use super::{failed, rows::Row};

/// Percent at both ends of the axis.
const LEAST: f64 = 0.1;
const MOST: f64 = 100_000.0;
const POLICY: RGBColor = RGBColor(31, 119, 180);
const NAIVE: RGBColor = RGBColor(200, 200, 200);

/// Two bars for each row, from the top: what the policy adds, what the naive scheme adds.
pub fn added(docs: &Path, name: &str, title: &str, rows: &[&Row]) -> Result<(), Diagnostic> {
    let measured: Vec<(String, f64, f64)> = rows
        .iter()
        .filter_map(|row| {
            let label = format!("{} {}", row.compartment, row.operation);
            let bound = |added: f64| (added * 100.0).clamp(LEAST, MOST);
            Some((label, bound(row.added()?), bound(row.added_naive()?)))
        })
        .collect();
    let file = docs.join(name);
    draw(&file, title, &measured).map_err(|e| failed("draw", &file, &e))
}

fn draw(
    file: &Path,
    title: &str,
    rows: &[(String, f64, f64)],
) -> Result<(), Box<dyn std::error::Error>> {
    let count = rows.len().max(1) as i32;
    let height = 90 + 22 * count as u32;
    let root = SVGBackend::new(file, (900, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(270)
        // In half rows: each has a bar above the other.
        .build_cartesian_2d((LEAST..MOST).log_scale(), 0..2 * count)?;
    let label = |half: &i32| {
        let row = (2 * count - half - 1) / 2;
        let named = half % 2 == 1 && *half > 0;
        rows.get(row as usize)
            .filter(|_| named)
            .map_or(String::new(), |(label, ..)| label.clone())
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(2 * count as usize + 1)
        .y_label_formatter(&label)
        .x_label_formatter(&|percent| format!("{percent} %"))
        .x_desc("added to the operation without a policy")
        .draw()?;
    for (color, name, upper) in [(POLICY, "policy", true), (NAIVE, "naive", false)] {
        let bars = rows.iter().enumerate().map(|(row, (_, policy, naive))| {
            let top = 2 * count - 2 * row as i32 - i32::from(!upper);
            let value = if upper { *policy } else { *naive };
            Rectangle::new([(LEAST, top - 1), (value, top)], color.filled())
        });
        chart
            .draw_series(bars)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}
