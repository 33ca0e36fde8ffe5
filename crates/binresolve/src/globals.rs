//! Where the globals of the analysis lie in the images.

use std::collections::BTreeMap;

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

/// Variables with static storage: address by (function, name).
type Variables<'v> = BTreeMap<(&'v str, &'v str), u64>;

/// The globals of an analysis, bound to symbols.
#[derive(Default)]
pub struct Globals {
    /// Sorted by global.
    pub symbols: Vec<GlobalSymbol>,
    /// What could not be bound.
    pub diagnostics: Vec<Diagnostic>,
    by_address: BTreeMap<(ImageId, u64), GlobalId>,
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
                .find_map(|(c, v)| in_compartment(&c.image, v, global).map(|s| (&c.image, s)))
                .or_else(|| elsewhere(global, confined, others));
            if let Some((image, symbol)) = found {
                result.by_address.insert((image.id, symbol.address), id);
                result.symbols.push(GlobalSymbol {
                    global: id,
                    location: image.location(symbol.address),
                    size: if symbol.size == 0 {
                        global.size
                    } else {
                        symbol.size
                    },
                });
            } else {
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

    /// The global whose symbol starts at an address.
    pub fn at(&self, image: ImageId, address: u64) -> Option<GlobalId> {
        self.by_address.get(&(image, address)).copied()
    }

    /// The global of this name in whatever image.
    pub fn named(&self, symbol: &str) -> Option<GlobalId> {
        self.by_name.get(symbol).copied()
    }
}

fn elsewhere<'i, 'd>(
    global: &Global,
    confined: &'i [Confined<'d>],
    others: &'i [Image<'d>],
) -> Option<(&'i Image<'d>, Symbol<'d>)> {
    let named = |image: &&Image<'_>| image.name == global.image;
    let images = others.iter().chain(confined.iter().map(|c| &c.image));
    images
        .clone()
        .filter(named)
        .chain(images.clone())
        .find_map(|image| {
            let symbol = image.symbol(&global.symbol)?;
            Some((image, *symbol))
        })
}

/// A variable of the compartment. A static one inside a function is `function.name` in bitcode
/// and `name.123` in a symbol table of GCC: debug information tells which is which.
fn in_compartment<'d>(
    image: &Image<'d>,
    variables: &Variables<'_>,
    global: &Global,
) -> Option<Symbol<'d>> {
    if let Some(symbol) = image.symbol(&global.symbol) {
        return Some(*symbol);
    }
    let (function, name) = global
        .symbol
        .split_once('.')
        .unwrap_or(("", &global.symbol));
    // clang numbers further variables of one name: `function.name.5`.
    let name = name.split('.').next().unwrap_or(name);
    let address = variables.get(&(function, name))?;
    image.symbol_at(*address).copied()
}
