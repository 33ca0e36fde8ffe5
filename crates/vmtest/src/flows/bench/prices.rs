//! What one hit costs, out of all rows: the least squares of relative errors. Writes `prices.json` for `otf cost`.

use std::collections::BTreeMap;

use otf_artifact::profile::{Prices, Work, work_of};

use super::rows::Row;

/// Rows that add less than this part say nothing.
const LEAST: f64 = 0.02;

/// Prices of a check, a note and a free; nothing when the rows do not tell the three apart.
pub fn prices(rows: &[Row]) -> Option<Prices> {
    let told: Vec<&Row> = rows
        .iter()
        .filter(|row| row.added().is_some_and(|added| added > LEAST))
        .collect();
    // Normal equations of sum(price * hits) / added = 1.
    let (mut matrix, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
    for row in &told {
        let added = row.instructions_with? - row.instructions_without?;
        let hits = by_kind(&row.hits_by_program).map(|hits| hits / added);
        for i in 0..3 {
            for j in 0..3 {
                matrix[i][j] += hits[i] * hits[j];
            }
            right[i] += hits[i];
        }
    }
    let found = solve(matrix, right)?;
    let from = told
        .iter()
        .map(|row| format!("{}/{}", row.compartment, row.operation));
    found
        .iter()
        .all(|price| *price > 0.0)
        .then(|| Prices::new(from.collect(), found))
}

fn by_kind(hits: &BTreeMap<String, f64>) -> [f64; 3] {
    let mut kinds = [0.0; 3];
    for (program, hits) in hits {
        let kind = match work_of(program) {
            Work::Check => 0,
            Work::Note => 1,
            Work::Free => 2,
        };
        kinds[kind] += hits;
    }
    kinds
}

/// Gaussian elimination with pivots; nothing when the matrix is singular.
fn solve(mut matrix: [[f64; 3]; 3], mut right: [f64; 3]) -> Option<[f64; 3]> {
    let scale = matrix
        .iter()
        .flatten()
        .fold(0.0_f64, |most, v| most.max(v.abs()));
    for column in 0..3 {
        let pivot = (column..3).max_by(|a, b| {
            let (a, b): (f64, f64) = (matrix[*a][column].abs(), matrix[*b][column].abs());
            a.total_cmp(&b)
        })?;
        if matrix[pivot][column].abs() <= scale * 1e-9 {
            return None;
        }
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        for row in column + 1..3 {
            let factor = matrix[row][column] / matrix[column][column];
            let above = matrix[column];
            for (entry, above) in matrix[row].iter_mut().zip(above).skip(column) {
                *entry -= factor * above;
            }
            right[row] -= factor * right[column];
        }
    }
    let mut found = [0.0; 3];
    for row in (0..3).rev() {
        let known: f64 = (row + 1..3).map(|c| matrix[row][c] * found[c]).sum();
        found[row] = (right[row] - known) / matrix[row][row];
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(hits: [(&str, f64); 3], prices: [f64; 3]) -> Row {
        let added: f64 = hits
            .iter()
            .zip(prices)
            .map(|((_, hits), price)| hits * price)
            .sum();
        Row {
            compartment: "a".into(),
            operation: "b".into(),
            instructions_without: Some(1000.0),
            instructions_with: Some(1000.0 + added),
            instructions_naive: None,
            hits_per_operation: None,
            hits_naive: None,
            hits_by_program: hits.iter().map(|(n, h)| ((*n).to_owned(), *h)).collect(),
            spread: 0.0,
            missing: Vec::new(),
            violations: 0,
        }
    }

    #[test]
    fn prices_are_found_again() {
        let truth = [1800.0, 900.0, 250.0];
        let mix = |site, gate, free| {
            row(
                [
                    ("otf_site", site),
                    ("otf_gate", gate),
                    ("otf_free_kfree", free),
                ],
                truth,
            )
        };
        let rows = [mix(10.0, 1.0, 4.0), mix(0.0, 2.0, 9.0), mix(50.0, 7.0, 0.0)];
        let found = prices(&rows).unwrap();
        for (found, truth) in [found.check, found.note, found.free].iter().zip(truth) {
            assert!((found - truth).abs() < 1e-3, "{found} is not {truth}");
        }
        assert_eq!(found.from.len(), 3);
        assert!(
            prices(&rows[..2]).is_none(),
            "two rows cannot tell three prices"
        );
    }
}
