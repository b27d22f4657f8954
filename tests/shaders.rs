//! The shaders without a GPU: naga accepts them, they match the kernel table, and they translate
//! for every backend.

mod cases;
mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cases::Case;
use gradcon::kernels::{
    Access, Element, Entry, Form, Launch, SHADERS, Shader, VARIANTS, Word, entries,
};
use gradcon::program::dispatch::{UNIFORM_BINDING, UNIFORM_BYTES};
use gradcon::tape::ops::Map;
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, Expression, Literal, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner,
};

/// Core WebGPU, whose packing of two halves into a word naga counts as a capability.
const CORE: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

fn validate(module: &Module) -> ModuleInfo {
    Validator::new(ValidationFlags::all(), CORE)
        .validate(module)
        .unwrap_or_else(|e| panic!("{e:?}"))
}

/// Every file: the families', and those of variants.
fn files() -> impl Iterator<Item = &'static Shader> {
    SHADERS.into_iter().chain(VARIANTS)
}

fn shaders() -> BTreeMap<&'static str, (Module, ModuleInfo)> {
    let parse = |shader: &'static Shader| {
        let (name, text) = (shader.name, shader.text());
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{name}.wgsl: {}", e.emit_to_string(&text)));
        // No capability beyond core WebGPU.
        let info = Validator::new(ValidationFlags::all(), CORE)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{name}.wgsl: {}", e.emit_to_string(&text)));
        (name, (module, info))
    };
    files().map(parse).collect()
}

/// Every entry point with its file.
fn table() -> impl Iterator<Item = (&'static Shader, &'static Entry)> {
    files().flat_map(|shader| shader.entries.iter().map(move |entry| (shader, entry)))
}

fn entry_point(module: &Module, name: &str) -> usize {
    module
        .entry_points
        .iter()
        .position(|e| e.name == name)
        .unwrap_or_else(|| panic!("no entry point {name}"))
}

/// Dispatches of both case tables, one for each kernel, variant and set of constants.
fn variants() -> Vec<(Case, Launch)> {
    let mut seen = HashMap::new();
    for case in cases::tests()
        .into_iter()
        .chain(cases::benches(64, 1, Form::Parallel))
        .chain(cases::benches(64, 3, Form::Serial))
    {
        for launch in case.kernel.family().variants() {
            let key = (case.kernel.name(), launch.variant, launch.constants.clone());
            seen.entry(key).or_insert((case.clone(), launch));
        }
    }
    seen.into_values().collect()
}

#[test]
fn every_file_belongs_to_the_kernel_table_and_every_entry_point_is_a_kernel() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let found: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    // `bench.rs` looks at peaks.wgsl, which has no kernel of a program.
    let names = files().filter(|s| !s.half).map(|s| s.name).chain(["peaks"]);
    let wanted: BTreeSet<String> = names.map(|name| format!("{name}.wgsl")).collect();
    assert_eq!(found, wanted);
    let shaders = shaders();
    for shader in files() {
        let module = &shaders[shader.name].0;
        let in_file: BTreeSet<_> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        let in_table: BTreeSet<_> = shader.entries.iter().map(|e| e.name).collect();
        assert_eq!(in_file, in_table, "{}.wgsl", shader.name);
        assert!(module.entry_points.iter().all(|e| e.stage == ShaderStage::Compute));
    }
    let names: BTreeSet<_> = entries().map(|e| e.name).collect();
    assert_eq!(names.len(), entries().count(), "two kernels have one name");
}

/// A constant of a shader by its name.
fn constant(module: &Module, name: &str) -> f64 {
    let mut constants = module.constants.iter();
    let (_, constant) = constants
        .find(|(_, c)| c.name.as_deref() == Some(name))
        .unwrap_or_else(|| panic!("no constant {name}"));
    match module.global_expressions[constant.init] {
        Expression::Literal(Literal::U32(v)) => v.into(),
        Expression::Literal(Literal::F32(v)) => v.into(),
        ref other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn constants_equal_those_of_the_definitions() {
    let shaders = shaders();
    for shader in files() {
        for &(name, want) in shader.constants {
            let got = constant(&shaders[shader.name].0, name);
            assert_eq!(got as f32, want as f32, "{}.wgsl: {name}", shader.name);
        }
    }
    for map in Map::ALL {
        let got = constant(&shaders["map"].0, &map.name().to_uppercase());
        assert_eq!(got, f64::from(map.number()), "{}", map.name());
    }
}

#[test]
fn bindings_equal_the_kernel_table() {
    let shaders = shaders();
    // Bindings that some call has in half precision.
    let cases = cases::tests();
    let half = |case: &Case, i: usize| case.kernel.element(i) == Element::Half;
    let halves: BTreeSet<(&str, usize)> = cases
        .iter()
        .flat_map(|case| (0..case.kernel.bindings().len()).map(move |i| (case, i)))
        .filter(|&(case, i)| half(case, i))
        .map(|(case, i)| (case.kernel.name(), i))
        .collect();
    assert!(halves.len() > 20, "{halves:?}");
    for (shader, row) in table() {
        let (module, info) = &shaders[shader.name];
        let used = info.get_entry_point(entry_point(module, row.name));
        let mut bindings = BTreeMap::new();
        for (handle, var) in module.global_variables.iter() {
            let storage = matches!(var.space, AddressSpace::Storage { .. });
            if let (false, true, Some(at)) = (used[handle].is_empty(), storage, &var.binding) {
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
        for (i, ((var, uses), binding)) in bindings.values().zip(row.bindings).enumerate() {
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
                binding.access != Access::Write && row.name != "record" || !writable,
                "{at}: read"
            );
            let TypeInner::Array { base, stride, .. } = module.types[var.ty].inner else {
                panic!("{at} is no array")
            };
            // A variant may take four elements at a time, of which half precision makes two words.
            let (scalar, of) = match module.types[base].inner {
                TypeInner::Scalar(scalar) => (scalar, 1),
                TypeInner::Vector { size, scalar } => (scalar, size as u32),
                ref other => panic!("{at} is an array of {other:?}"),
            };
            let float = binding.element == Element::Float;
            let can_half = halves.contains(&(row.name, i));
            let want = match (shader.half && can_half, float) {
                (true, _) => (of == 2, ScalarKind::Uint),
                // Words that the shader takes for either.
                (_, true) if can_half && of == 1 => (true, scalar.kind),
                (_, true) => (of == 1 || of == 4, ScalarKind::Float),
                (_, false) => (of == 1, ScalarKind::Uint),
            };
            assert_eq!((true, scalar.kind), want, "{at} in {}", shader.name);
            assert_eq!((scalar.width, stride), (4, 4 * of), "{at}");
        }
    }
}

/// The uniform variables that an entry point uses, by group and binding.
fn uniforms<'a>(
    (module, info): &'a (Module, ModuleInfo),
    entry: &str,
) -> BTreeMap<(u32, u32), &'a naga::GlobalVariable> {
    let used = info.get_entry_point(entry_point(module, entry));
    let of = |(handle, var): (naga::Handle<naga::GlobalVariable>, &'a naga::GlobalVariable)| {
        let uniform = var.space == AddressSpace::Uniform && !used[handle].is_empty();
        let at = var.binding.as_ref().filter(|_| uniform)?;
        Some(((at.group, at.binding), var))
    };
    module.global_variables.iter().filter_map(of).collect()
}

#[test]
fn uniforms_are_the_parameters_by_name_and_then_the_strides() {
    let shaders = shaders();
    for case in cases::tests() {
        let (kernel, name) = (case.kernel.family(), case.kernel.name());
        let files = kernel.variants().into_iter().map(|v| v.shader.unwrap_or(kernel.shader()));
        for file in files.map(|file| file.name).collect::<BTreeSet<_>>() {
            let shader = &shaders[file];
            let (module, uniforms) = (&shader.0, uniforms(shader, name));
            let mut places = vec![(0, UNIFORM_BINDING)];
            places.extend(kernel.entry().reads_step.then_some((1, 0)));
            assert_eq!(uniforms.keys().copied().collect::<Vec<_>>(), places, "{name}");

            let var = uniforms[&(0, UNIFORM_BINDING)];
            let TypeInner::Struct { members, span } = &module.types[var.ty].inner else {
                panic!("{name}: the words are no struct")
            };
            assert!(*span as usize <= UNIFORM_BYTES, "{name}: {span} bytes");
            let words = kernel.uniforms().0;
            let fields: Vec<(String, u32, naga::Scalar)> =
                members.iter().flat_map(|member| fields(module, member)).collect();
            // Kernels of one file share the struct: some have fewer bindings than strides.
            assert!(fields.len() >= words.len() + case.kernel.bindings().len(), "{name}");
            for (i, (field, offset, scalar)) in fields.iter().enumerate() {
                // Words in sequence: the same layout in every language.
                assert_eq!(*offset as usize, 4 * i, "{name}: {field}");
                match words.get(i) {
                    Some((word, value)) => {
                        assert_eq!(field, word, "{name}, word {i}");
                        let kind = match value {
                            Word::U32(_) => ScalarKind::Uint,
                            Word::F32(_) => ScalarKind::Float,
                        };
                        assert_eq!(scalar.kind, kind, "{name}: {field}");
                    }
                    None => assert!(field.contains("stride"), "{name}: {field}"),
                }
            }
        }
    }
}

/// The words of a struct's member: itself, or those of an array of four, whose rows lie the same in
/// every language.
fn fields(module: &Module, member: &naga::StructMember) -> Vec<(String, u32, naga::Scalar)> {
    let name = member.name.clone().unwrap_or_default();
    match module.types[member.ty].inner {
        TypeInner::Scalar(scalar) => vec![(name, member.offset, scalar)],
        TypeInner::Array { base, size: naga::ArraySize::Constant(rows), stride: 16 } => {
            let TypeInner::Vector { size: naga::VectorSize::Quad, scalar } =
                module.types[base].inner
            else {
                panic!("{name} is no array of four words")
            };
            let word = |i: u32| (name.clone(), member.offset + 4 * i, scalar);
            (0..4 * rows.get()).map(word).collect()
        }
        ref other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn every_variant_has_the_declared_workgroup_and_translates_for_every_backend() {
    let shaders = shaders();
    for (case, launch) in variants() {
        let name = case.kernel.name();
        let family = case.kernel.family();
        let (module, info) = &shaders[launch.shader.unwrap_or(family.shader()).name];
        let constants = launch
            .constants
            .iter()
            .map(|&(name, value)| (name.to_string(), value as f64))
            .collect();
        let entry = Some((ShaderStage::Compute, name));
        let (module, _) =
            naga::back::pipeline_constants::process_overrides(module, info, entry, &constants)
                .unwrap_or_else(|e| panic!("{}: {e:?}", case.name));
        let info = validate(&module);
        let at = entry_point(&module, name);
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
            entry_point: name.to_string(),
        };
        naga::back::spv::write_vec(&module, &info, &Default::default(), Some(&spv))
            .unwrap_or_else(|e| panic!("{} SPIR-V: {e:?}", case.name));
        let msl = naga::back::msl::Options { fake_missing_bindings: true, ..Default::default() };
        naga::back::msl::write_string(&module, &info, &msl, &Default::default())
            .unwrap_or_else(|e| panic!("{} MSL: {e:?}", case.name));
        let hlsl = naga::back::hlsl::Options {
            fake_missing_bindings: true,
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

/// What the inner loops of a shader do that costs more than the multiplications they are for.
#[derive(Default, PartialEq, Debug)]
struct Costly {
    divisions: usize,
    /// Of private memory, by an index that is no constant: registers become memory.
    private_indices: usize,
    scalar_loads: usize,
    products: usize,
}

impl Costly {
    /// Adds up the statements of `block`, those of functions called in it included; only what is in
    /// a loop, if not `inside` of one already.
    fn add(
        &mut self,
        module: &Module,
        function: &naga::Function,
        block: &naga::Block,
        inside: bool,
    ) {
        for statement in block {
            match statement {
                naga::Statement::Emit(range) if inside => {
                    range.clone().for_each(|at| self.add_expression(module, function, at));
                }
                naga::Statement::Call { function: called, .. } if inside => {
                    let called = &module.functions[*called];
                    self.add(module, called, &called.body, true);
                }
                naga::Statement::Loop { body, continuing, .. } => {
                    self.add(module, function, body, true);
                    self.add(module, function, continuing, true);
                }
                naga::Statement::Block(body) => self.add(module, function, body, inside),
                naga::Statement::If { accept, reject, .. } => {
                    self.add(module, function, accept, inside);
                    self.add(module, function, reject, inside);
                }
                _ => {}
            }
        }
    }

    fn add_expression(
        &mut self,
        module: &Module,
        function: &naga::Function,
        at: naga::Handle<Expression>,
    ) {
        let expressions = &function.expressions;
        match expressions[at] {
            Expression::Binary { op, .. } => {
                use naga::BinaryOperator::{Divide, Modulo};
                self.divisions += matches!(op, Divide | Modulo) as usize;
            }
            Expression::Math { fun: naga::MathFunction::Fma, .. } => self.products += 1,
            // A literal is an index that the front end did not know yet.
            Expression::Access { base, index } => {
                let mut root = base;
                while let Expression::Access { base, .. } | Expression::AccessIndex { base, .. } =
                    expressions[root]
                {
                    root = base;
                }
                let private = match expressions[root] {
                    Expression::GlobalVariable(var) => {
                        module.global_variables[var].space == AddressSpace::Private
                    }
                    _ => true,
                };
                let constant = matches!(expressions[index], Expression::Literal(_));
                self.private_indices += (private && !constant) as usize;
            }
            Expression::Load { pointer } => {
                let Expression::Access { base, .. } = expressions[pointer] else { return };
                let Expression::GlobalVariable(var) = expressions[base] else { return };
                let var = &module.global_variables[var];
                let TypeInner::Array { base, .. } = module.types[var.ty].inner else { return };
                let scalar = matches!(module.types[base].inner, TypeInner::Scalar(_));
                let storage = matches!(var.space, AddressSpace::Storage { .. });
                self.scalar_loads += (scalar && storage) as usize;
            }
            _ => {}
        }
    }
}

/// What is in the loops of a launch of a convolution.
fn costly(shader: &(Module, ModuleInfo), launch: &Launch, entry: &str) -> Costly {
    let constants: Vec<(String, f64)> =
        launch.constants.iter().map(|&(name, value)| (name.to_string(), value.into())).collect();
    let constants = constants.into_iter().collect();
    let at = Some((ShaderStage::Compute, entry));
    let (module, info) = shader;
    let (module, _) =
        naga::back::pipeline_constants::process_overrides(module, info, at, &constants).unwrap();
    let of = |f: &&naga::Function| f.name.as_deref() == Some("convolve");
    let function = module.functions.iter().map(|(_, f)| f).find(of);
    let function =
        function.unwrap_or_else(|| &module.entry_points[entry_point(&module, entry)].function);
    let mut costly = Costly::default();
    costly.add(&module, function, &function.body, false);
    costly
}

/// In the loops of the register tiles, and of the thin variant, nothing is divided, no register is picked by a number, and
/// nothing is loaded one by one.
#[test]
fn loops_of_register_tiles_only_move_on_and_multiply() {
    let shaders = shaders();
    let mut seen = BTreeSet::new();
    let mut references = 0;
    for (case, launch) in variants() {
        let (kernel, name) = (case.kernel.family(), case.kernel.name());
        if kernel.products().is_none() || launch.variant == gradcon::kernels::DIRECT {
            continue;
        }
        let file = launch.shader.unwrap_or(kernel.shader()).name;
        let found = costly(&shaders[file], &launch, name);
        if launch.variant == gradcon::kernels::REFERENCE {
            // Which is what they are compared with, and shows that the count counts.
            references += (found.divisions > 0 && found.scalar_loads > 0) as usize;
            continue;
        }
        let none = Costly { products: found.products, ..Costly::default() };
        assert_eq!(found, none, "{name}, {}", launch.variant);
        assert!(found.products >= 16, "{name}, {}", launch.variant);
        seen.insert((name, launch.variant));
    }
    assert!(references > 10 && seen.len() > 20, "{references} references, {} tiles", seen.len());
}
