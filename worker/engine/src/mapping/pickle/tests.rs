#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::machine::{MAX_MARKS, MAX_VALUES};
use super::*;

/// Returns a pickle of protocol 4: the given opcodes, and STOP.
fn pickle(body: &[u8]) -> Vec<u8> {
    [b"\x80\x04", body, b"."].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[0x8c, text.len() as u8], text.as_bytes()].concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    [text(module), text(name), vec![0x93]].concat()
}

/// Returns the opcodes of `_reconstruct(ndarray, (0,), b'b')`.
fn begin_array() -> Vec<u8> {
    [global("numpy.core.multiarray", "_reconstruct"), global("numpy", "ndarray"), b"K\x00\x85C\x01b\x87R".to_vec()]
        .concat()
}

fn dtype(code: &str, order: &str) -> Vec<u8> {
    [
        global("numpy", "dtype"),
        text(code),
        b"\x89\x88\x87R(K\x03".to_vec(),
        text(order),
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb".to_vec(),
    ]
    .concat()
}

/// Returns the opcodes of a whole array; `shape` and `data` are opcodes.
fn array(shape: &[u8], dtype: &[u8], fortran: bool, data: &[u8]) -> Vec<u8> {
    let order: &[u8] = if fortran { b"\x88" } else { b"\x89" };
    [&begin_array(), &b"(K\x01"[..], shape, dtype, order, data, b"tb"].concat()
}

fn bytes(data: &[u8]) -> Vec<u8> {
    [b"B", &(data.len() as u32).to_le_bytes()[..], data].concat()
}

fn f8s(values: &[f64]) -> Vec<u8> {
    bytes(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

fn error(body: &[u8]) -> String {
    PickleDocument::parse(&pickle(body)).expect_err("accepted").to_string()
}

/// The bytes that Python 3.11 and numpy 2.4 write for `{"depth": numpy.array([-5.0, -15.0]), "k": (0, -1, None)}`.
const BY_PYTHON: &[u8] = b"\x80\x04\x95\xb3\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x05depth\x94\x8c\x16numpy._core.multiarray\
\x94\x8c\x0c_reconstruct\x94\x93\x94\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\x00\x85\x94C\x01b\x94\x87\x94R\x94(K\x01K\
\x02\x85\x94h\x05\x8c\x05dtype\x94\x93\x94\x8c\x02f8\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\
\xff\xffK\x00t\x94b\x89C\x10\x00\x00\x00\x00\x00\x00\x14\xc0\x00\x00\x00\x00\x00\x00.\xc0\x94t\x94b\x8c\x01k\x94K\x00J\xff\xff\
\xff\xffN\x87\x94u.";

#[test]
fn reads_what_python_writes() {
    let document = PickleDocument::parse(BY_PYTHON).unwrap();
    let root = document.root();
    let depth = document.array(document.get(root, "depth").unwrap()).unwrap();
    assert_eq!((depth.shape(), depth.len(), depth.is_fortran()), (&[2][..], 2, false));
    assert_eq!((depth.dtype().kind, depth.dtype().size), (ElementKind::Float, 8));
    assert_eq!(depth.floats().unwrap(), [-5.0, -15.0]);
    assert!(depth.integers().is_none());
    let k = document.items(document.get(root, "k").unwrap()).unwrap();
    assert_eq!(k, [PickleValue::Int(0), PickleValue::Int(-1), PickleValue::None]);
    assert_eq!(document.get(root, "absent"), None);
    assert_eq!(document.pairs(root).unwrap().len(), 2);
}

#[test]
fn every_cut_is_an_error() {
    for end in 0..BY_PYTHON.len() {
        assert!(PickleDocument::parse(&BY_PYTHON[..end]).is_err(), "cut at {end}");
    }
    let longer = [BY_PYTHON, b"\n"].concat();
    assert!(PickleDocument::parse(&longer).unwrap_err().to_string().contains("other bytes follow"));
}

#[test]
fn plain_values() {
    let body = [
        &b"]("[..],
        b"N\x88\x89K\xffM\xff\xffJ\x00\x00\x00\x80",
        b"\x8a\x00\x8a\x01\x80\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"G\xc0\x04\x00\x00\x00\x00\x00\x00",
        b"\x8c\x01aX\x01\x00\x00\x00b\x8d\x01\x00\x00\x00\x00\x00\x00\x00c",
        b"C\x01aB\x01\x00\x00\x00b\x8e\x01\x00\x00\x00\x00\x00\x00\x00c",
        b")K\x01\x85K\x01K\x02\x86K\x01K\x02K\x03\x87(K\x07t",
        b"e",
    ]
    .concat();
    let bytes = pickle(&body);
    let document = PickleDocument::parse(&bytes).unwrap();
    let items = document.items(document.root()).unwrap();
    let expected = [
        PickleValue::None,
        PickleValue::Bool(true),
        PickleValue::Bool(false),
        PickleValue::Int(255),
        PickleValue::Int(65535),
        PickleValue::Int(i32::MIN.into()),
        PickleValue::Int(0),
        PickleValue::Int(-128),
        PickleValue::Int(i64::MAX),
        PickleValue::Float(-2.5),
        PickleValue::Str("a"),
        PickleValue::Str("b"),
        PickleValue::Str("c"),
        PickleValue::Bytes(b"a"),
        PickleValue::Bytes(b"b"),
        PickleValue::Bytes(b"c"),
    ];
    assert_eq!(items[..16], expected);
    let lengths: Vec<_> = items[16..].iter().map(|&tuple| document.items(tuple).unwrap().len()).collect();
    assert_eq!(lengths, [0, 1, 2, 3, 1]);
}

#[test]
fn older_protocols_and_all_memo_opcodes() {
    let body =
        b"]q\x00(X\x01\x00\x00\x00ar\x01\x00\x00\x00h\x01j\x01\x00\x00\x00K\x05q\x01h\x01ecnumpy\ndtype\nq\x02\x86";
    let bytes = [&b"\x80\x02"[..], body, b"."].concat();
    let document = PickleDocument::parse(&bytes).unwrap();
    let &[list, dtype] = document.items(document.root()).unwrap() else { panic!() };
    let a = PickleValue::Str("a");
    assert_eq!(document.items(list).unwrap(), [a, a, a, PickleValue::Int(5), PickleValue::Int(5)]);
    assert_eq!(dtype, PickleValue::Global(PickleGlobal::DType));
    // SETITEM and APPEND work one at a time, and the later entry of a key counts.
    let bytes = pickle(b"}\x8c\x01aK\x01s\x8c\x01a]K\x09as");
    let document = PickleDocument::parse(&bytes).unwrap();
    assert_eq!(document.items(document.get(document.root(), "a").unwrap()).unwrap(), [PickleValue::Int(9)]);
}

#[test]
fn arrays_of_all_kinds() {
    let cases: [(&str, &[u8], &[i64]); 5] = [
        ("i1", &[0xff, 1], &[-1, 1]),
        ("u1", &[0xff, 1], &[255, 1]),
        ("i2", &[0xfe, 0xff, 1, 1], &[-2, 257]),
        ("u4", &[0, 0, 0, 0x80, 1, 0, 0, 0], &[1 << 31, 1]),
        ("i8", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0, 0, 0, 0, 0], &[-1, 7]),
    ];
    for (code, data, expected) in cases {
        let order = if code.ends_with('1') { "|" } else { "<" };
        let bytes = pickle(&array(b"K\x02\x85", &dtype(code, order), false, &bytes(data)));
        let document = PickleDocument::parse(&bytes).unwrap();
        assert_eq!(document.array(document.root()).unwrap().integers().unwrap(), expected, "{code}");
    }
    let single = pickle(&array(b"K\x01\x85", &dtype("f4", "<"), false, &bytes(&0.5_f32.to_le_bytes())));
    let document = PickleDocument::parse(&single).unwrap();
    assert_eq!(document.array(document.root()).unwrap().floats().unwrap(), [0.5]);
    // Newer versions of numpy use another module name. An array without dimensions has one element.
    let mut body = array(b")", &dtype("f8", "<"), false, &f8s(&[2.5]));
    body.splice(0..23, text("numpy._core.multiarray"));
    let bytes = pickle(&body);
    let document = PickleDocument::parse(&bytes).unwrap();
    let array = document.array(document.root()).unwrap();
    assert_eq!((array.shape(), array.floats().unwrap()), (&[][..], vec![2.5]));
}

#[test]
fn fortran_order_is_turned() {
    // The array [[1, 2], [3, 4], [5, 6]], stored column by column.
    let data = f8s(&[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    let bytes = pickle(&array(b"K\x03K\x02\x86", &dtype("f8", "<"), true, &data));
    let document = PickleDocument::parse(&bytes).unwrap();
    let array = document.array(document.root()).unwrap();
    assert!(array.is_fortran());
    assert_eq!(array.floats().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn object_arrays_and_scalars() {
    // A stored mapping has this form: -1 or a list of uint32 scalars.
    let scalar = |value: u8| {
        [global("numpy.core.multiarray", "scalar"), dtype("u4", "<"), vec![b'C', 4, value, 0, 0, 0], vec![0x86, b'R']]
            .concat()
    };
    let list = [&b"](J\xff\xff\xff\xff]("[..], &scalar(7), &scalar(9), b"ee"].concat();
    let bytes = pickle(&array(b"K\x02\x85", &dtype("O8", "|"), false, &list));
    let document = PickleDocument::parse(&bytes).unwrap();
    let root = document.root();
    assert_eq!(document.array(root).unwrap().dtype().kind, ElementKind::Object);
    assert!(document.array(root).unwrap().raw().is_none());
    let objects = document.objects(root).unwrap();
    assert_eq!(objects[0], PickleValue::Int(-1));
    assert_eq!(document.items(objects[1]).unwrap(), [PickleValue::Int(7), PickleValue::Int(9)]);
    assert_eq!(document.objects(objects[1]), None);
}

#[test]
fn arrays_that_do_not_fit_their_shape() {
    let f8 = dtype("f8", "<");
    let data = f8s(&[1.0, 2.0]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (array(b"K\x03\x85", &f8, false, &data), "shape [3] needs 24 bytes, there are 16"),
        (array(b"K\x01\x85", &f8, false, &data), "shape [1] needs 8 bytes, there are 16"),
        (array(b"J\xff\xff\xff\xff\x85", &f8, false, &data), "-1 elements"),
        (array(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x04\x86", &f8, false, &data), "impossible shape"),
        (array(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", &f8, false, &data), "impossible shape"),
        (array(b"(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x02t", &f8, false, &data), "9 dimensions"),
        (array(b"N\x85", &f8, false, &data), "shape of an array holds None"),
        (array(b"K\x02\x85", &f8, false, b"]"), "data of an array are a list"),
        (array(b"K\x02\x85", &dtype("O8", "|"), false, &data), "data of an array are bytes"),
        (array(b"K\x02\x85", &dtype("O8", "|"), false, b"]"), "does not have the array's length"),
        (array(b"K\x02\x85", &dtype("f8", ">"), false, &data), "byte order \">\""),
        (array(b"K\x02\x85", &dtype("f8", "|"), false, &data), "byte order \"|\""),
        (array(b"K\x02\x85", &dtype("V16", "|"), false, &data), "element type \"V16\""),
        (array(b"K\x02\x85", b"N", false, &data), "not (1, shape, dtype, order, data)"),
        (
            array(
                b"K\x02\x85",
                &[global("numpy", "dtype"), text("f8"), b"\x89\x88\x87R".to_vec()].concat(),
                false,
                &data,
            ),
            "no byte order",
        ),
    ];
    for (body, expected) in cases {
        let error = error(&body);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // An array that was begun but never filled.
    let bytes = pickle(&begin_array());
    let document = PickleDocument::parse(&bytes).unwrap();
    assert!(document.array(document.root()).is_none());
    assert!(document.objects(document.root()).is_none());
}

#[test]
fn other_globals_are_refused_by_name() {
    // cos\nsystem\n(S'...'\ntR. in protocol 0, and the same in protocol 4.
    assert!(PickleDocument::parse(b"cos\nsystem\n(S'true'\ntR.").is_err());
    let body = [global("os", "system"), text("true"), b"\x85R".to_vec()].concat();
    let found = PickleDocument::parse(&pickle(&body)).unwrap_err();
    assert_eq!(found, PickleError::PickleGlobal { at: 14, name: "os.system".to_owned() });
    assert_eq!(
        found.to_string(),
        "byte 14 of the pickle: the global \"os.system\" is not allowed in mapping factors; do not trust this file"
    );
    for (module, name) in [
        ("posix", "system"),
        ("builtins", "eval"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "ndarray"),
        ("numpy", "_reconstruct"),
        ("numpy.core", "multiarray._reconstruct"),
        ("", ""),
    ] {
        assert!(
            matches!(PickleDocument::parse(&pickle(&global(module, name))), Err(PickleError::PickleGlobal { .. })),
            "{module}.{name}"
        );
    }
    assert!(matches!(PickleDocument::parse(&pickle(b"cos\nsystem\n")), Err(PickleError::PickleGlobal { at: 2, .. })));
    let endless = "x".repeat(200);
    assert!(error(&global(&endless, "y")).len() < 200);
}

#[test]
fn calls_are_only_what_arrays_need() {
    let ndarray = global("numpy", "ndarray");
    let reconstruct = global("numpy.core.multiarray", "_reconstruct");
    let scalar = global("numpy.core.multiarray", "scalar");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        ([&ndarray[..], b")R"].concat(), "unexpected arguments of NdArray"),
        ([&reconstruct[..], b")R"].concat(), "unexpected arguments of Reconstruct"),
        ([&reconstruct[..], &reconstruct, b"K\x00\x85C\x01b\x87R"].concat(), "unexpected arguments of Reconstruct"),
        ([&scalar[..], b"NN\x86R"].concat(), "unexpected arguments of Scalar"),
        ([&scalar[..], &dtype("f8", "<"), b"C\x01a\x86R"].concat(), "does not fit its element type"),
        ([&scalar[..], &dtype("O8", "|"), b"C\x08aaaaaaaa\x86R"].concat(), "does not fit its element type"),
        ([&scalar[..], &dtype("u8", "<"), b"C\x08\xff\xff\xff\xff\xff\xff\xff\xff\x86R"].concat(), "does not fit"),
        (b"K\x01)R".to_vec(), "a call of an integer with a tuple"),
        ([&ndarray[..], b"]R"].concat(), "a call of a function or class with a list"),
        (b"])b".to_vec(), "BUILD of a list"),
        (b"]}b".to_vec(), "BUILD with a dict"),
        ([&ndarray[..], b")b"].concat(), "BUILD of a function or class"),
    ];
    for (body, expected) in cases {
        let error = error(&body);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn other_opcodes_are_refused() {
    // INST, OBJ, NEWOBJ, NEWOBJ_EX, PERSID, BINPERSID, EXT1, POP, DUP, INT, STRING, FROZENSET, BYTEARRAY8, NEXT_BUFFER
    for opcode in *b"io\x81\x92PQ\x8202IS\x91\x96\x97" {
        let found = PickleDocument::parse(&pickle(&[b'N', opcode])).unwrap_err();
        assert_eq!(found, PickleError::Opcode { at: 3, opcode });
    }
    assert_eq!(
        PickleDocument::parse(&pickle(b"\x81")).unwrap_err().to_string(),
        "byte 2 of the pickle: opcode 0x81 is not allowed in mapping factors"
    );
    for start in [&b""[..], b"N.", b"\x80\x01N.", b"\x80\x06N.", b"\x80"] {
        assert!(PickleDocument::parse(start).is_err());
    }
}

#[test]
fn the_stack_is_guarded() {
    for body in [
        &b""[..],
        b"NN",
        b"(N",
        b"N(",
        b"\x85",
        b"N\x86",
        b"N(\x85",
        b"t",
        b"e",
        b"u",
        b"a",
        b"s",
        b"Na",
        b"NNs",
        b"](Na",
        b"}(NNs",
        b"}(Nu",
        b"](N(e",
        b"N(b",
        b"b",
        b"R",
        b"\x94",
        b"h\x00",
        b"Nq\x01",
        b"Nr\xff\xff\xff\xff",
        b"Nj\x00\x00\x00\x00",
        b"\x93",
        b"NN\x93",
        b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x8c\x02\xff\xff",
    ] {
        let bytes = pickle(body);
        let found = PickleDocument::parse(&bytes);
        assert!(matches!(found, Err(PickleError::Malformed { .. })), "{body:?}: {found:?}");
    }
}

#[test]
fn huge_lengths_allocate_nothing() {
    for body in [
        &b"X\xff\xff\xff\xff"[..],
        b"B\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8a\xff",
        b"cnumpy",
    ] {
        assert_eq!(PickleDocument::parse(&pickle(body)).unwrap_err(), PickleError::Truncated { at: 2 });
    }
}

#[test]
fn sharing_and_cycles_cost_nothing() {
    // A list of two references to a list of two references ... 300 deep: 2^300 values if it were expanded.
    let mut body = b"]\x94".to_vec();
    for index in 0_u32..300 {
        body.extend(b"](");
        body.push(b'j');
        body.extend(index.to_le_bytes());
        body.push(b'j');
        body.extend(index.to_le_bytes());
        body.extend(b"e\x94\x86");
    }
    let bytes = pickle(&body);
    let document = PickleDocument::parse(&bytes).unwrap();
    let outer = document.items(document.root()).unwrap();
    assert_eq!(document.items(outer[1]).unwrap().len(), 2);
    // A list that holds itself, also as the elements of an array which the list then outgrows.
    let body = [&begin_array()[..], b"\x94(K\x01K\x01\x85", &dtype("O8", "|"), b"\x89]\x94h\x01a\x94tbh\x01K\x05a\x86"]
        .concat();
    let bytes = pickle(&body);
    let document = PickleDocument::parse(&bytes).unwrap();
    let &[array, list] = document.items(document.root()).unwrap() else { panic!() };
    assert_eq!(document.objects(array).unwrap(), [list]);
    assert_eq!(document.items(list).unwrap(), [list, PickleValue::Int(5)]);
    assert!(!format!("{document:?}").is_empty());
}

#[test]
fn nesting_and_numbers_are_bounded() {
    let deep = [vec![b'('; 300], vec![b't'; 300]].concat();
    let found = PickleDocument::parse(&pickle(&deep)).unwrap_err();
    assert_eq!(found, PickleError::Limit { at: 2 + MAX_MARKS, what: "open containers", limit: MAX_MARKS });
    // A tuple in a tuple, a million deep, is read and dropped without recursion.
    let bytes = pickle(&[vec![b')'], vec![0x85; 1_000_000]].concat());
    drop(PickleDocument::parse(&bytes).unwrap());
    // The repeated opcodes, and the number of values that each round leaves behind.
    for (flood, values) in
        [(&b"N"[..], 1), (b"](NNNNNNNNe\x85", 10), (b"}", 1), (b"]", 1), (b"N\x94", 1), (b"N\x85", 1)]
    {
        let bytes = pickle(&flood.repeat(MAX_VALUES / values + 1));
        assert!(matches!(PickleDocument::parse(&bytes), Err(PickleError::Limit { .. })), "{flood:?}");
    }
}

#[test]
fn values_of_another_document_are_harmless() {
    let bytes = pickle(b"]K\x01\x85}\x87");
    let full = PickleDocument::parse(&bytes).unwrap();
    let empty = PickleDocument::parse(b"\x80\x04N.").unwrap();
    for &value in full.items(full.root()).unwrap() {
        assert!(empty.items(value).is_none() && empty.pairs(value).is_none() && empty.array(value).is_none());
    }
    assert_eq!(full.root().kind(), "a tuple");
}

/// Reads everything that can be read, without following references.
fn inspect(document: &PickleDocument<'_>) {
    let mut seen = vec![document.root()];
    seen.extend(document.items(document.root()).unwrap_or_default());
    seen.extend(document.pairs(document.root()).unwrap_or_default().iter().map(|pair| pair.1));
    for value in seen {
        let _ = (value.kind(), document.objects(value), document.get(value, "lat"));
        if let Some(array) = document.array(value) {
            let _ = (array.floats(), array.integers(), array.is_empty(), array.is_fortran());
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        if let Ok(document) = PickleDocument::parse(&bytes) {
            inspect(&document);
        }
        if let Ok(document) = PickleDocument::parse(&pickle(&bytes)) {
            inspect(&document);
        }
    }

    #[test]
    fn arbitrary_programs_never_panic(steps in prop::collection::vec(step(), 0..60)) {
        let bytes = pickle(&steps.concat());
        if let Ok(document) = PickleDocument::parse(&bytes) {
            inspect(&document);
        }
        // Without the frame of protocol and STOP, more programs end well.
        let bytes = pickle(&[&b"]("[..], &steps.concat(), b"e"].concat());
        if let Ok(document) = PickleDocument::parse(&bytes) {
            inspect(&document);
        }
    }

    #[test]
    fn damaged_files_never_panic(at: prop::sample::Index, byte: u8, other: prop::sample::Index, more: u8) {
        let mut bytes = BY_PYTHON.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let other = other.index(bytes.len());
        bytes[other] = more;
        if let Ok(document) = PickleDocument::parse(&bytes) {
            inspect(&document);
        }
    }
}

/// Generates one opcode with its argument, or a piece of an array.
fn step() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(b"N\x88\x89()\x85\x86\x87t]ae}su\x94\x93Rb".to_vec()).prop_map(|opcode| vec![opcode]),
        2 => any::<u8>().prop_map(|value| vec![b'K', value]),
        1 => any::<i32>().prop_map(|value| [b"J", &value.to_le_bytes()[..]].concat()),
        2 => (0..6_u8).prop_map(|index| vec![b'h', index]),
        1 => any::<[u8; 8]>().prop_map(|data| bytes(&data)),
        1 => prop::sample::select(vec!["f8", "O8", "u1", "<", "lat"]).prop_map(text),
        1 => prop::sample::select(vec!["f8", "i8", "u1", "O8"])
            .prop_map(|code| dtype(code, if code == "O8" || code == "u1" { "|" } else { "<" })),
        1 => Just(begin_array()),
        1 => (0..3_u8, any::<bool>(), any::<[u8; 16]>()).prop_map(|(size, fortran, data)|
            array(&[b'K', size, 0x85], &dtype("f8", "<"), fortran, &bytes(&data))),
    ]
}
