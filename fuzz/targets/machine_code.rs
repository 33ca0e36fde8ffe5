//! Any bytes as machine code in an otherwise sound image: each byte is decoded, or noted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use object::{
    Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, StandardSection, Symbol, SymbolSection},
};
use otf_artifact::ids::ImageId;
use otf_binresolve::{
    decode::{Instructions, destination},
    image::Image,
};

fn image(code: &[u8]) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    let start = object.append_section_data(text, code, 16);
    object.add_symbol(Symbol {
        name: b"f".to_vec(),
        value: start,
        size: code.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Linkage,
        weak: false,
        section: SymbolSection::Section(text),
        flags: SymbolFlags::None,
    });
    object.write().expect("a sound object")
}

fuzz_target!(|code: &[u8]| {
    let bytes = image(code);
    let image = Image::parse("test", ImageId(0), &bytes).expect("a sound object");
    let section = image.section(".text").expect("the code");
    let range = (section.base, section.base + code.len() as u64);
    let found = Instructions::decode(&image, &[range]);
    let decoded: usize = found.all.iter().map(|i| i.len()).sum();
    assert!(decoded + found.undecodable.len() >= code.len());
    for instruction in &found.all {
        let _ = destination(&image, instruction);
    }
});
