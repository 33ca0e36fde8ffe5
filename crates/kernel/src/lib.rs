//! Turns a kernel profile into image, debug information, modules, guard and bitcode.
