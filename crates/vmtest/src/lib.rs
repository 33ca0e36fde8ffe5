//! Boots a kernel in QEMU and runs tests in it.
