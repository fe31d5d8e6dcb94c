//! The set of units and its order. The image build calls [`load_dir`] too, so that a broken set never ships.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::directive::parse_unit;
use super::error::LoadUnitError;
use super::model::Unit;
use super::name::UnitName;

/// The place of a unit in its [`UnitSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub usize);

/// Units whose references all resolve and whose order has no cycle.
#[derive(Debug, Clone)]
pub struct UnitSet {
    units: Vec<Unit>,
    ids: BTreeMap<String, UnitId>,
    after: Vec<BTreeSet<UnitId>>,
}

impl UnitSet {
    /// Checks references and order of `units`.
    ///
    /// # Errors
    /// [`LoadUnitError::Missing`] or [`LoadUnitError::Cycle`].
    pub fn new(units: Vec<Unit>) -> Result<UnitSet, LoadUnitError> {
        let ids = units
            .iter()
            .enumerate()
            .map(|(at, unit)| (unit.name.clone(), UnitId(at)))
            .collect();
        let after = vec![BTreeSet::new(); units.len()];
        let mut set = UnitSet { units, ids, after };
        for at in 0..set.units.len() {
            set.resolve(UnitId(at))?;
        }
        match set.cycle() {
            Some(cycle) => Err(LoadUnitError::Cycle { cycle }),
            None => Ok(set),
        }
    }

    /// Checks that every name `id` mentions exists, and notes its order edges.
    fn resolve(&mut self, id: UnitId) -> Result<(), LoadUnitError> {
        let unit = &self.units[id.0];
        let references = [
            ("After", &unit.after),
            ("Before", &unit.before),
            ("Requires", &unit.requires),
            ("Wants", &unit.wants),
        ];
        let mut edges = Vec::new();
        for (directive, names) in references {
            for name in names {
                let other = *self.ids.get(name).ok_or_else(|| LoadUnitError::Missing {
                    unit: unit.name.clone(),
                    directive,
                    missing: name.clone(),
                })?;
                match directive {
                    "After" => edges.push((id, other)),
                    "Before" => edges.push((other, id)),
                    _ => {}
                }
            }
        }
        for (later, earlier) in edges {
            self.after[later.0].insert(earlier);
        }
        Ok(())
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Whether there is no unit.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Every unit with its id, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (UnitId, &Unit)> {
        self.units
            .iter()
            .enumerate()
            .map(|(at, unit)| (UnitId(at), unit))
    }

    /// The unit at `id`, which must come from this set.
    ///
    /// # Panics
    /// When `id` is from a larger set.
    pub fn unit(&self, id: UnitId) -> &Unit {
        &self.units[id.0]
    }

    /// The unit of that name.
    pub fn find(&self, name: &str) -> Option<UnitId> {
        self.ids.get(name).copied()
    }

    /// Units that `id` starts after, and stops before: `After=` of its own and `Before=` of others.
    pub fn after(&self, id: UnitId) -> &BTreeSet<UnitId> {
        &self.after[id.0]
    }

    /// Units `id` requires.
    pub fn requires(&self, id: UnitId) -> Vec<UnitId> {
        self.units[id.0]
            .requires
            .iter()
            .filter_map(|name| self.find(name))
            .collect()
    }

    /// `target` and everything it pulls in through Requires= and Wants=.
    pub fn pulled_in_by(&self, target: UnitId) -> BTreeSet<UnitId> {
        let mut found = BTreeSet::new();
        let mut open = vec![target];
        while let Some(id) = open.pop() {
            if found.insert(id) {
                let unit = self.unit(id);
                open.extend(
                    unit.requires
                        .iter()
                        .chain(&unit.wants)
                        .filter_map(|name| self.find(name)),
                );
            }
        }
        found
    }

    /// The names along one order cycle, if there is one.
    fn cycle(&self) -> Option<Vec<String>> {
        let mut open: BTreeSet<UnitId> = (0..self.len()).map(UnitId).collect();
        while let Some(free) = open
            .iter()
            .copied()
            .find(|id| self.after(*id).is_disjoint(&open))
        {
            open.remove(&free);
        }
        // Every unit left has a predecessor that is left, so walking back must meet itself.
        let mut path = vec![*open.first()?];
        loop {
            let next = *self.after(*path.last()?).intersection(&open).next()?;
            if let Some(start) = path.iter().position(|id| *id == next) {
                path.push(next);
                return Some(
                    path[start..]
                        .iter()
                        .map(|id| self.unit(*id).name.clone())
                        .collect(),
                );
            }
            path.push(next);
        }
    }
}

/// Reads every unit in `dir`, and every instance of a template that one of them names.
///
/// # Errors
/// The first file, line, reference or cycle that is wrong.
pub fn load_dir(dir: &Path) -> Result<UnitSet, LoadUnitError> {
    let mut templates = BTreeMap::new();
    let mut units = BTreeMap::new();
    for path in unit_files(dir)? {
        let file_name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let name: UnitName = file_name
            .parse()
            .map_err(|_| LoadUnitError::FileName { path: path.clone() })?;
        let text = fs::read_to_string(&path).map_err(|source| LoadUnitError::Read {
            path: path.clone(),
            source,
        })?;
        if name.is_template() {
            // Parsed as an instance too, so that a template nobody names is still checked.
            parse_unit(&name, &path, &text)?;
            templates.insert(name.to_string(), (path, text));
        } else {
            units.insert(name.to_string(), parse_unit(&name, &path, &text)?);
        }
    }
    add_instances(&mut units, &templates)?;
    UnitSet::new(units.into_values().collect())
}

fn unit_files(dir: &Path) -> Result<Vec<PathBuf>, LoadUnitError> {
    let failed = |source| LoadUnitError::List {
        path: dir.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Makes a unit of each instance that is named somewhere, until no new one turns up.
fn add_instances(
    units: &mut BTreeMap<String, Unit>,
    templates: &BTreeMap<String, (PathBuf, String)>,
) -> Result<(), LoadUnitError> {
    let mut open: Vec<String> = units.values().flat_map(references).collect();
    while let Some(name) = open.pop() {
        let parsed = name.parse::<UnitName>().ok();
        let template = parsed
            .as_ref()
            .and_then(UnitName::template)
            .map(|template| template.to_string());
        let found = template.and_then(|template| templates.get(&template));
        if let (Some(parsed), Some((path, text)), false) =
            (parsed, found, units.contains_key(&name))
        {
            let unit = parse_unit(&parsed, path, text)?;
            open.extend(references(&unit));
            units.insert(name, unit);
        }
    }
    Ok(())
}

fn references(unit: &Unit) -> Vec<String> {
    [&unit.after, &unit.before, &unit.requires, &unit.wants]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}
