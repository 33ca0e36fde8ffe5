//! Where the globals of the analysis lie in the images.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::{Analysis, Global},
    diagnostic::{Code, Diagnostic},
    ids::{GlobalId, ImageId},
    sites::GlobalSymbol,
};

use crate::{
    confined::Confined,
    image::{Image, Symbol},
};

/// Variables with static storage: units and addresses by (function, name).
type Variables<'v> = BTreeMap<(&'v str, &'v str), Vec<(&'v str, u64)>>;

/// The globals of an analysis, bound to symbols.
#[derive(Default)]
pub struct Globals {
    /// Sorted by global.
    pub symbols: Vec<GlobalSymbol>,
    /// What could not be bound.
    pub diagnostics: Vec<Diagnostic>,
    by_address: BTreeMap<(ImageId, u64), Vec<GlobalId>>,
    by_name: BTreeMap<String, GlobalId>,
}

impl Globals {
    /// Binds every global; `others` are images that are not confined.
    pub fn bind(analysis: &Analysis, confined: &[Confined<'_>], others: &[Image<'_>]) -> Self {
        let mut result = Self::default();
        let variables: Vec<Variables<'_>> = confined.iter().map(|c| c.debug.variables()).collect();
        for (row, global) in analysis.globals.iter().enumerate() {
            let id = GlobalId::from(row);
            result.by_name.entry(global.symbol.clone()).or_insert(id);
            let found = confined
                .iter()
                .zip(&variables)
                .filter(|(c, _)| c.image.name == global.image)
                .find_map(|(c, v)| {
                    let found = in_compartment(&c.image, v, global);
                    (!found.is_empty()).then_some((&c.image, found))
                })
                .or_else(|| elsewhere(global, confined, others));
            let found = found.map_or_else(Vec::new, |(image, symbols)| {
                symbols.into_iter().map(|symbol| (image, symbol)).collect()
            });
            let unbound = found.is_empty();
            // Where variables of one name cannot be told apart, each may be the one.
            for (image, symbol) in found {
                let place = (image.id, symbol.address);
                result.by_address.entry(place).or_default().push(id);
                result.symbols.push(GlobalSymbol {
                    global: id,
                    location: image.location(symbol.address),
                    size: if symbol.size == 0 {
                        global.size
                    } else {
                        symbol.size
                    },
                });
            }
            if unbound {
                let message = format!(
                    "the variable {} is in no symbol table: writes of it are not recognised as legal",
                    global.symbol
                );
                let diagnostic = Diagnostic::warning(Code::Unbound, message)
                    .at(global.file.clone(), 0, 0)
                    .help(format!("give the image {}", global.image));
                result.diagnostics.push(diagnostic);
            }
        }
        result
    }

    /// The globals whose symbol starts at an address: more than one where debug information
    /// cannot tell variables of one name apart.
    pub fn at(&self, image: ImageId, address: u64) -> &[GlobalId] {
        let found = self.by_address.get(&(image, address));
        found.map_or(&[][..], Vec::as_slice)
    }

    /// The global of this name in whatever image.
    pub fn named(&self, symbol: &str) -> Option<GlobalId> {
        self.by_name.get(symbol).copied()
    }
}

type Found<'i, 'd> = (&'i Image<'d>, Vec<Symbol<'d>>);

fn elsewhere<'i, 'd>(
    global: &Global,
    confined: &'i [Confined<'d>],
    others: &'i [Image<'d>],
) -> Option<Found<'i, 'd>> {
    let named = |image: &&Image<'_>| image.name == global.image;
    let images = others.iter().chain(confined.iter().map(|c| &c.image));
    images
        .clone()
        .filter(named)
        .chain(images.clone())
        .find_map(|image| {
            let symbols = symbols(image, &global.symbol);
            (!symbols.is_empty()).then_some((image, symbols))
        })
}

fn symbols<'d>(image: &Image<'d>, name: &str) -> Vec<Symbol<'d>> {
    let named = image.symbols_named(name).filter(|s| !s.function);
    named.copied().collect()
}

/// A variable of the compartment. A static one inside a function is `function.name` in bitcode
/// and `name.123` in a symbol table of GCC: debug information tells which is which, and which of
/// several of one name is that of the file. What it cannot tell apart is all given.
fn in_compartment<'d>(
    image: &Image<'d>,
    variables: &Variables<'_>,
    global: &Global,
) -> Vec<Symbol<'d>> {
    let named = symbols(image, &global.symbol);
    if named.len() == 1 {
        return named;
    }
    let (function, name) = global
        .symbol
        .split_once('.')
        .unwrap_or(("", &global.symbol));
    // clang numbers further variables of one name: `function.name.5`.
    let name = name.split('.').next().unwrap_or(name);
    let known = variables.get(&(function, name));
    let known = known.map_or(&[][..], Vec::as_slice);
    let of_file: Vec<u64> = known
        .iter()
        .filter(|(unit, _)| *unit == global.file)
        .map(|(_, address)| *address)
        .collect();
    let any = known.iter().map(|(_, address)| *address);
    let addresses: BTreeSet<u64> = if of_file.is_empty() {
        any.collect()
    } else {
        of_file.into_iter().collect()
    };
    if named.is_empty() {
        let at = addresses.iter().filter_map(|a| image.symbol_at(*a));
        return at.copied().collect();
    }
    let exact: Vec<Symbol<'_>> = named
        .iter()
        .filter(|s| addresses.contains(&s.address))
        .copied()
        .collect();
    if exact.is_empty() { named } else { exact }
}
