//! What goblin reads in the same file: sections, symbols and relocations must agree.

mod common;

use std::collections::BTreeSet;

use goblin::elf::{Elf, section_header::SHF_EXECINSTR, sym::STT_FUNC};
use otf_artifact::ids::ImageId;
use otf_binresolve::{decode::Instructions, decode::destination, extent::Extent, image::Image};

#[test]
fn sections_symbols_and_calls() {
    let source = "
int counter;
void outside(int);
__attribute__((noinline)) static int helper(int *p) { return *p + counter; }
__attribute__((section(\".text.unlikely\"))) void cold(int *p) { outside(helper(p)); *p = 1; }
void f(int *p) { *p = helper(p); outside(1); }
";
    let directory = tempfile::tempdir().expect("a folder");
    std::fs::write(directory.path().join("t.c"), source).expect("a file");
    for compiler in ["gcc", "clang-19"] {
        let object = common::compile(compiler, directory.path(), "t.c", &[]);
        let bytes = std::fs::read(&object).expect("an object");
        let elf = Elf::parse(&bytes).expect("an ELF file");
        let name = |header: &goblin::elf::SectionHeader| elf.shdr_strtab.get_at(header.sh_name);
        let image = Image::parse("test", ImageId(0), &bytes).expect("an image");

        let theirs: BTreeSet<(&str, u64)> = elf
            .section_headers
            .iter()
            .filter(|h| h.sh_flags & u64::from(SHF_EXECINSTR) != 0)
            .filter_map(|h| Some((name(h)?, h.sh_size)))
            .collect();
        let executable = image.sections.iter().filter(|s| s.executable);
        let ours: BTreeSet<(&str, u64)> = executable.map(|s| (s.name, s.size)).collect();
        assert_eq!(ours, theirs);

        let theirs: BTreeSet<(&str, &str, u64)> = elf
            .syms
            .iter()
            .filter(|s| s.st_type() == STT_FUNC && s.st_shndx != 0)
            .filter_map(|s| {
                let section = name(&elf.section_headers[s.st_shndx])?;
                Some((elf.strtab.get_at(s.st_name)?, section, s.st_value))
            })
            .collect();
        let functions = image.symbols.iter().filter(|s| s.function);
        let places: Vec<_> = functions
            .map(|s| (s.name, image.location(s.address)))
            .collect();
        let ours: BTreeSet<(&str, &str, u64)> = places
            .iter()
            .map(|(name, place)| (*name, place.section.as_str(), place.offset))
            .collect();
        assert_eq!(ours, theirs);

        let called_outside = elf
            .shdr_relocs
            .iter()
            .filter(|(row, _)| {
                let target = elf.section_headers[*row].sh_info as usize;
                let flags = elf.section_headers[target].sh_flags;
                flags & u64::from(SHF_EXECINSTR) != 0
            })
            .flat_map(|(_, relocations)| relocations.iter())
            .filter_map(|r| elf.syms.get(r.r_sym))
            .filter(|s| elf.strtab.get_at(s.st_name) == Some("outside"))
            .count();
        let code = Instructions::decode(&image, &Extent::whole(&image).ranges);
        let ours = code.all.iter().filter_map(|i| destination(&image, i));
        let ours: Vec<_> = ours.filter(|d| d.symbol == "outside").collect();
        assert_eq!(ours.len(), called_outside, "{compiler}");
        assert!(called_outside >= 2 && ours.iter().all(|d| d.address.is_none()));
    }
}
