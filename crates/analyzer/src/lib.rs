//! Bitcode to facts, facts to object types, allocation sites and legal sets.
