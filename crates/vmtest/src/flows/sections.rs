//! A file with a table for people, and sections of other tables behind it, each begun by its heading.

/// How a section's heading begins.
const MARK: &str = "## ";

/// The file with another section in place of the one of the same heading (its first line), or behind the others.
pub fn replaced(file: &str, section: &str) -> String {
    let heading = section.lines().next().unwrap_or_default();
    let mut parts = split(file);
    match parts
        .iter_mut()
        .find(|part| part.lines().next() == Some(heading))
    {
        Some(part) => section.clone_into(part),
        None => parts.push(section.to_owned()),
    }
    joined(&parts)
}

/// Another beginning with the sections that the file has.
pub fn kept(file: &str, beginning: String) -> String {
    let sections = split(file)
        .into_iter()
        .filter(|part| part.starts_with(MARK));
    let parts: Vec<String> = std::iter::once(beginning).chain(sections).collect();
    joined(&parts)
}

/// What comes before the first section, and every section.
fn split(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for line in file.split_inclusive('\n') {
        match parts.last_mut() {
            Some(part) if !line.starts_with(MARK) => part.push_str(line),
            _ => parts.push(line.to_owned()),
        }
    }
    parts
}

fn joined(parts: &[String]) -> String {
    let parts: Vec<&str> = parts.iter().map(|part| part.trim_end()).collect();
    let mut text = parts.join("\n\n");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::{kept, replaced};

    #[test]
    fn tables_live_beside_each_other() {
        let first = replaced("# Attacks\n\nx\n", "## Afterwards\n\nold\n");
        assert_eq!(first, "# Attacks\n\nx\n\n## Afterwards\n\nold\n");
        let second = replaced(&first, "## Heap\n\nheap\n");
        assert_eq!(
            replaced(&second, "## Afterwards\n\nnew\n"),
            "# Attacks\n\nx\n\n## Afterwards\n\nnew\n\n## Heap\n\nheap\n"
        );
        assert_eq!(
            kept(&second, "# Attacks\n\ny\n".into()),
            "# Attacks\n\ny\n\n## Afterwards\n\nold\n\n## Heap\n\nheap\n"
        );
        assert_eq!(kept("# Attacks\n", "z\n".into()), "z\n");
        assert_eq!(replaced("", "## Afterwards\n"), "## Afterwards\n");
    }
}
