//! Short grace periods while many probes are attached or detached: each waits for one.

use std::fs;
use std::path::PathBuf;

use super::Host;

/// Below sysfs.
const SWITCH: &str = "kernel/rcu_expedited";

/// Holds `/sys/kernel/rcu_expedited` at 1; puts the old value back when it is dropped. Where it
/// cannot be set, everything merely takes longer.
#[derive(Debug)]
pub struct Expedited(Option<(PathBuf, String)>);

/// The switch as it is now.
pub fn current(host: &Host) -> Option<String> {
    host.sys_line(SWITCH)
}

/// Puts back what a killed command has left at 1.
pub fn restore(host: &Host, before: &str) {
    // Nothing depends on it: grace periods stay short, that is all.
    let _ = fs::write(host.sys.join(SWITCH), before);
}

impl Expedited {
    /// From here on grace periods are short.
    pub fn new(host: &Host) -> Self {
        let path = host.sys.join(SWITCH);
        let before = fs::read_to_string(&path)
            .ok()
            .filter(|value| value.trim() == "0")
            .filter(|_| fs::write(&path, "1").is_ok());
        Self(before.map(|value| (path, value)))
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Some((path, before)) = &self.0 {
            // Nothing depends on it, and there is nobody to tell.
            let _ = fs::write(path, before.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_value_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let host = Host {
            sys: root.path().into(),
            proc: root.path().into(),
        };
        let path = root.path().join("kernel/rcu_expedited");
        drop(Expedited::new(&host));
        assert!(!path.exists(), "a kernel without the switch");
        fs::create_dir(root.path().join("kernel")).unwrap();
        for (before, during) in [("0\n", "1"), ("1\n", "1\n")] {
            fs::write(&path, before).unwrap();
            let held = Expedited::new(&host);
            assert_eq!(fs::read_to_string(&path).unwrap(), during);
            drop(held);
            assert_eq!(fs::read_to_string(&path).unwrap().trim(), before.trim());
        }
    }
}
