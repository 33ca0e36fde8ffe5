//! ELF, DWARF and x86 to sites with operands, joined with legal sets.
