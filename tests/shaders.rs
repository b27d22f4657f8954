//! The shaders without a GPU: naga accepts them, they match the kernel table, and they translate
//! for every backend.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gradcon::cases::{self, Case};
use gradcon::engine::gpu::launch::{HEADER_WORDS, IMMEDIATE_BYTES, Launch, launch, source};
use gradcon::program::kernel::{Access, Element, KERNELS, Kernel, Params};
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner};

fn validate(module: &Module) -> ModuleInfo {
    Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES)
        .validate(module)
        .unwrap_or_else(|e| panic!("{e:?}"))
}

fn shaders() -> BTreeMap<&'static str, (Module, ModuleInfo)> {
    let names: BTreeSet<_> = KERNELS.iter().map(|row| row.shader).collect();
    let parse = |name| {
        let text = source(name);
        let module = naga::front::wgsl::parse_str(text)
            .unwrap_or_else(|e| panic!("{name}.wgsl: {}", e.emit_to_string(text)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{name}.wgsl: {}", e.emit_to_string(text)));
        (name, (module, info))
    };
    names.into_iter().map(parse).collect()
}

fn entry_point(module: &Module, name: &str) -> usize {
    module
        .entry_points
        .iter()
        .position(|e| e.name == name)
        .unwrap_or_else(|| panic!("no entry point {name}"))
}

/// Dispatches of both case tables, one for each kernel and set of constants.
fn variants() -> Vec<(Case, Launch)> {
    let mut seen = HashMap::new();
    for case in
        cases::tests().into_iter().chain(cases::benches(64, 1, 8)).chain(cases::benches(64, 3, 1))
    {
        let launch = launch(case.kernel, &case.params, 1);
        seen.entry((case.kernel, launch.constants.clone())).or_insert((case, launch));
    }
    seen.into_values().collect()
}

#[test]
fn every_file_belongs_to_the_kernel_table_and_every_entry_point_is_a_kernel() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted: BTreeSet<String> =
        KERNELS.iter().map(|row| format!("{}.wgsl", row.shader)).collect();
    assert_eq!(files, wanted);
    for (name, (module, _)) in shaders() {
        let entries: BTreeSet<_> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        let kernels: BTreeSet<_> =
            KERNELS.iter().filter(|row| row.shader == name).map(|row| row.name).collect();
        assert_eq!(entries, kernels, "{name}.wgsl");
        assert!(module.entry_points.iter().all(|e| e.stage == ShaderStage::Compute));
    }
}

#[test]
fn bindings_equal_the_kernel_table() {
    let shaders = shaders();
    for row in KERNELS {
        let (module, info) = &shaders[row.shader];
        let used = info.get_entry_point(entry_point(module, row.name));
        let mut bindings = BTreeMap::new();
        for (handle, var) in module.global_variables.iter() {
            if let (false, Some(at)) = (used[handle].is_empty(), &var.binding) {
                assert_eq!(at.group, 0, "{}", row.name);
                assert!(
                    bindings.insert(at.binding, (var, used[handle])).is_none(),
                    "{}: binding {} twice",
                    row.name,
                    at.binding
                );
            }
        }
        let numbers: Vec<u32> = bindings.keys().copied().collect();
        assert_eq!(numbers, (0..row.bindings.len() as u32).collect::<Vec<_>>(), "{}", row.name);
        for ((var, uses), binding) in bindings.values().zip(row.bindings) {
            let at = format!("{} {}", row.name, binding.name);
            let AddressSpace::Storage { access } = var.space else {
                panic!("{at} is no storage buffer")
            };
            let writable = binding.access != Access::Read;
            assert_eq!(access.contains(StorageAccess::STORE), writable, "{at}: declared access");
            assert!(access.contains(StorageAccess::LOAD), "{at}: declared access");
            assert_eq!(uses.contains(GlobalUse::WRITE), writable, "{at}: written");
            // The log is only written; but a step's row alone, so the rest of it is kept.
            assert_eq!(
                uses.contains(GlobalUse::READ),
                binding.access != Access::Write && row.kernel != Kernel::Record || !writable,
                "{at}: read"
            );
            let TypeInner::Array { base, stride, .. } = module.types[var.ty].inner else {
                panic!("{at} is no array")
            };
            let want = if binding.element == Element::Float {
                ScalarKind::Float
            } else {
                ScalarKind::Uint
            };
            let TypeInner::Scalar(scalar) = module.types[base].inner else {
                panic!("{at} is no array of scalars")
            };
            assert_eq!((scalar.kind, scalar.width, stride), (want, 4, 4), "{at}");
        }
    }
}

#[test]
fn immediates_are_the_header_and_the_parameters() {
    let shaders = shaders();
    for case in cases::tests() {
        let row = case.kernel.row();
        let (module, info) = &shaders[row.shader];
        let used = info.get_entry_point(entry_point(module, row.name));
        let mut immediates = module.global_variables.iter().filter(|(handle, var)| {
            var.space == AddressSpace::Immediate && !used[*handle].is_empty()
        });
        let (Some((_, var)), None) = (immediates.next(), immediates.next()) else {
            panic!("{}: needs one immediate variable", row.name)
        };
        let TypeInner::Struct { members, span } = &module.types[var.ty].inner else {
            panic!("{}", row.name)
        };
        let words = HEADER_WORDS + case.params.words().len();
        // A constraint has as many words as it has segments; the shader declares them all.
        let fits = if let Params::Constraint { .. } = case.params {
            words * 4 <= *span as usize
        } else {
            words * 4 == *span as usize
        };
        assert!(fits && *span <= IMMEDIATE_BYTES, "{}: {span} bytes for {words} words", row.name);
        assert_eq!(members[0].name.as_deref(), Some("step"), "{}", row.name);
        // Scalars in sequence: the same layout in every language.
        for (i, member) in members.iter().enumerate() {
            assert_eq!(member.offset as usize, 4 * i, "{}", row.name);
            assert!(matches!(module.types[member.ty].inner, TypeInner::Scalar(_)), "{}", row.name);
        }
    }
}

#[test]
fn every_variant_has_the_declared_workgroup_and_translates_for_every_backend() {
    let shaders = shaders();
    for (case, launch) in variants() {
        let row = case.kernel.row();
        let (module, info) = &shaders[row.shader];
        let constants = launch
            .constants
            .iter()
            .map(|&(name, value)| (name.to_string(), value as f64))
            .collect();
        let entry = Some((ShaderStage::Compute, row.name));
        let (module, _) =
            naga::back::pipeline_constants::process_overrides(module, info, entry, &constants)
                .unwrap_or_else(|e| panic!("{}: {e:?}", case.name));
        let info = validate(&module);
        let at = entry_point(&module, row.name);
        assert_eq!(module.entry_points[at].workgroup_size, launch.workgroup_size, "{}", case.name);
        let used = info.get_entry_point(at);
        let bytes: u32 = module
            .global_variables
            .iter()
            .filter(|(handle, var)| {
                var.space == AddressSpace::WorkGroup && !used[*handle].is_empty()
            })
            .map(|(_, var)| module.types[var.ty].inner.size(module.to_ctx()))
            .sum();
        assert_eq!(bytes, launch.workgroup_bytes, "{}: workgroup memory", case.name);

        let spv = naga::back::spv::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: row.name.to_string(),
        };
        naga::back::spv::write_vec(&module, &info, &Default::default(), Some(&spv))
            .unwrap_or_else(|e| panic!("{} SPIR-V: {e:?}", case.name));
        let msl = naga::back::msl::Options { fake_missing_bindings: true, ..Default::default() };
        naga::back::msl::write_string(&module, &info, &msl, &Default::default())
            .unwrap_or_else(|e| panic!("{} MSL: {e:?}", case.name));
        let hlsl = naga::back::hlsl::Options {
            fake_missing_bindings: true,
            immediates_target: Some(naga::back::hlsl::BindTarget {
                register: 0,
                space: 1,
                ..Default::default()
            }),
            special_constants_binding: Some(naga::back::hlsl::BindTarget {
                register: 0,
                space: 2,
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut text = String::new();
        let pipeline = Default::default();
        naga::back::hlsl::Writer::new(&mut text, &hlsl, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{} HLSL: {e:?}", case.name));
    }
}
