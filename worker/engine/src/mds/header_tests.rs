//! Tests of headers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;

const SURFACE: &str = " nDims = [   2 ];
 dimList = [
90,    1,   90,
  1170,    1, 1170
 ];
 dataprec = [ 'float32' ];
 nrecords = [      1 ];
 timeStepNumber = [        732 ];
 timeInterval = [  3.600000000000E+03  2.635200000000E+06 ];
 missingValue = [ -9.99000000000000E+02 ];
 nFlds = [    1 ];
 fldList = {
 'SSHNOIBC'
 };
";

const THREE: &str = "nDims=[3];dimList=[90 1 90 1170 1 1170 50 1 50];format = ['real*8'];
    nrecords = [ 3 ]; fldList = { 'THETA   ' 'SALT    '
    'DRHODR  ' };";

fn parse(text: &str) -> Result<Header, MdsError> {
    Header::parse("x.meta", text.as_bytes())
}

fn message(text: &str) -> String {
    parse(text).expect_err("accepted").to_string()
}

#[test]
fn reads_a_surface_field() {
    let header = parse(SURFACE).unwrap();
    assert_eq!(header.sizes(), [90, 1170]);
    assert_eq!((header.levels(), header.llc_size().unwrap(), header.plane()), (None, 90, 105_300));
    assert_eq!(header.byte_length(), 421_200);
    assert_eq!((header.precision, header.records, header.step), (Precision::F32, 1, Some(732)));
    assert_eq!(header.interval, [3600.0, 2_635_200.0]);
    assert_eq!(header.missing, Some(-999.0));
    assert_eq!(header.fields, ["SSHNOIBC"]);
}

#[test]
fn reads_several_records_and_the_old_key() {
    let header = parse(THREE).unwrap();
    assert_eq!((header.levels(), header.precision, header.step), (Some(50), Precision::F64, None));
    assert_eq!(header.fields, ["THETA", "SALT", "DRHODR"]);
    assert_eq!(header.byte_length(), 3 * 8 * 50 * 105_300);
}

#[test]
fn reads_a_profile() {
    let header = parse("nDims=[3];dimList=[1,1,1,1,1,1,51,1,51];dataprec=['float32'];nrecords=[1];").unwrap();
    assert_eq!((header.levels(), header.plane(), header.byte_length()), (Some(51), 1, 204));
    assert!(header.llc_size().unwrap_err().to_string().contains("x.meta: sizes [1, 1, 51]"));
}

#[test]
fn passes_over_what_it_does_not_know() {
    let text = format!("// made by hand\n/* a title ; [ */ simulation = {{ 'a [b] = ;' }};\n mds_x = [ ];{SURFACE}");
    assert_eq!(parse(&text).unwrap(), parse(SURFACE).unwrap());
    let mut bytes = b"title = { 'Sch\xf6n' };".to_vec();
    bytes.extend(SURFACE.as_bytes());
    assert_eq!(Header::parse("x.meta", &bytes).unwrap(), parse(SURFACE).unwrap());
    for title in [
        "{ 'Menemenlis' run; v4r4 [b]' }",
        "{ 'L'Atlantique' }",
        "{ \"quoted\" and 'not }; closed }",
        "[ 1, 'a' } ]",
        "{ 'x = 1; y = 2' }",
        "{ 'over\ntwo lines' }",
        "12",
        "{ }",
    ] {
        assert_eq!(parse(&format!("simulation = {title};\n{SURFACE}")).unwrap(), parse(SURFACE).unwrap(), "{title}");
    }
    assert!(message(" title = { 'no end' ").contains("line 1: expected ';' after the value of this key"));
}

#[test]
fn editors_may_have_put_a_mark_before_it() {
    let mut bytes = vec![0xef, 0xbb, 0xbf];
    bytes.extend(SURFACE.replace('\n', "\r\n").into_bytes());
    assert_eq!(Header::parse("x.meta", &bytes).unwrap(), parse(SURFACE).unwrap());
    let units = || [0xfeff].into_iter().chain(SURFACE.encode_utf16());
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    for wide in [little, big] {
        assert_eq!(Header::parse("x.meta", &wide).unwrap(), parse(SURFACE).unwrap());
    }
}

#[test]
fn a_piece_says_where_it_lies() {
    let piece = |dims: &str, map: &str| {
        let text = SURFACE.replace("90,    1,   90,\n  1170,    1, 1170\n ];", &format!("{dims}];{map}"));
        Header::parse_any("x.meta", text.as_bytes())
    };
    let header = piece("90, 1, 90, 1170, 586, 1170", "").unwrap();
    let want = ArrayPiece { first: [0, 585], sizes: [90, 585], stride: [0, 1] };
    assert_eq!((header.piece(), header.sizes()), (Some(&want), &[90, 1170][..]));
    assert_eq!((header.byte_length(), header.llc_size().unwrap()), (210_600, 90));
    assert_eq!(header.whole().unwrap(), parse(SURFACE).unwrap());
    // a tile of facet 4: 30 x 30 cells, where each row is three rows below the one before
    let header = piece("90, 31, 60, 1170, 632, 661", " map2glob = [ 0, 3 ];").unwrap();
    assert_eq!(header.piece(), Some(&ArrayPiece { first: [30, 631], sizes: [30, 30], stride: [0, 3] }));
    for (dims, map, expected) in [
        ("90, 1, 90, 1170, 1100, 1129", " map2glob = [ 0, 3 ];", "map2glob = 0, 3: expected all rows"),
        ("90, 61, 90, 1170, 1, 2", " map2glob = [ 30, 0 ];", "map2glob = 30, 0: expected all rows"),
        ("90, 1, 30, 1170, 1, 30", " map2glob = [ 3 ];", "map2glob = 3: expected two integers"),
    ] {
        let message = piece(dims, map).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_header_may_state_that_the_file_has_some_levels_only() {
    let text = THREE.replace("50 1 50", "50 3 25");
    assert_eq!(message(&text), "x.meta: has 23 of 50 levels (the third line of dimList); all of them are needed here");
    let header = Header::parse_any("x.meta", text.as_bytes()).unwrap();
    assert_eq!(header.part_of_levels(), Some(PartOfLevels { first: 2, total: 50 }));
    assert_eq!((header.levels(), header.piece()), (Some(23), None));
    assert_eq!(header.byte_length(), parse(THREE).unwrap().byte_length() / 50 * 23);
    assert_eq!(parse(THREE).unwrap().part_of_levels(), None);
    let tile = text.replacen("1 90", "31 60", 1);
    let header = Header::parse_any("x.meta", tile.as_bytes()).unwrap();
    assert_eq!((header.piece().map(|piece| piece.first), header.levels()), (Some([30, 0]), Some(23)));
    assert_eq!(header.whole().unwrap().part_of_levels(), Some(PartOfLevels { first: 2, total: 50 }));
}

#[test]
fn levels_may_be_records() {
    // a pickup of the model: four fields of 23 levels, then two of one level
    let pickup = |names: &str, records: usize| {
        let text = format!(
            "nDims=[2]; dimList=[20,1,20,16,1,16]; dataprec=['float64']; nrecords=[{records}]; fldList={{{names}}};"
        );
        parse(&text).unwrap()
    };
    let names = "'Uvel    ' 'Vvel    ' 'Theta   ' 'Salt    ' 'EtaN    ' 'dEtaHdt '";
    let header = pickup(names, 4 * 23 + 2);
    let with = |record| FieldLocation { record, levels: Some(23), by_records: true };
    let without = |record| FieldLocation { record, levels: None, by_records: true };
    assert_eq!(header.find("Uvel", 23).unwrap(), with(0));
    assert_eq!(header.find("Salt", 23).unwrap(), with(69));
    assert_eq!(header.find("EtaN", 23).unwrap(), without(92));
    assert_eq!(header.find("dEtaHdt", 23).unwrap(), without(93));
    assert!(header.find("Nothing", 23).unwrap_err().to_string().contains("no field 'Nothing'"));
    for levels in [0, 1, 22, 50] {
        let error = header.find("Uvel", levels).unwrap_err().to_string();
        assert!(error.contains("which of 94 records is 'Uvel'"), "{levels}: {error}");
    }
    assert_eq!(
        pickup("'A' 'B'", 2).find("B", 23).unwrap(),
        FieldLocation { record: 1, levels: None, by_records: false }
    );
    assert_eq!(pickup("'A'", 23).find("A", 23).unwrap(), with(0));
    assert_eq!(pickup("'LONGNAME'", 1).find("LONGNAMES", 23).unwrap().record, 0);
}

#[test]
fn unreadable_times_are_absent() {
    let header = parse(&SURFACE.replace("3.600000000000E+03", "******************")).unwrap();
    assert!(header.interval.is_empty());
    let header = parse(&SURFACE.replace("E+02", "D+02")).unwrap();
    assert_eq!(header.missing, Some(-999.0));
}

#[test]
fn says_what_is_wrong_and_where() {
    for (from, to, expected) in [
        (" ];\n dataprec", " ]\n dataprec", "x.meta, line 6: expected ';' after the closing bracket, found 'dataprec'"),
        ("fldList = {", "fldList = (", "line 12: expected '[' or '{' after '=', found '('"),
        ("'SSHNOIBC'", "'SSHNOIBC", "line 13: expected a closing quote on the same line, found 'SSHNOIBC'"),
        ("nDims = [   2 ]", "nDims = [ 3 ]", "line 2: dimList = 90, 1, 90, 1170, 1, 1170: expected 3 triples"),
        ("nDims = [   2 ]", "nDims = [ 4 ]", "line 1: nDims = 4: expected integers from 2 to 3"),
        ("nDims = [   2 ]", "nDims = [ 2 2 ]", "expected one integer"),
        (" 1, 1170", " 1, 585", "x.meta: holds a piece of an array only"),
        ("90,    1,   90", "0, 1, 0", "expected integers of at least 1"),
        ("90,    1,   90", "90, 1, 91", "expected first <= last <= size"),
        ("float32", "float16", "line 6: dataprec = float16: expected 'float32' or 'float64'"),
        ("dataprec", "datapreC", "the key 'dataprec' is missing"),
        (" 'SSHNOIBC'", " 'SSHNOIBC' 'SSH     '", "expected 1 names at most, the number of records"),
        ("nrecords = [      1 ]", "nrecords = [ 0 ]", "nrecords = 0: expected integers of at least 1"),
        ("nrecords = [      1 ]", "nrecords = [ ]", "nrecords = : expected one integer"),
        ("nFlds = [    1 ]", "nFlds = [ 2 ]", "nFlds = 2: expected 1, the number of names"),
        ("'SSHNOIBC'", "'        '", "expected names of letters"),
        ("nFlds =", "nrecords =", "line 11: the key 'nrecords' stands here a second time"),
        ("[        732 ]", "[ ********** ]", "timeStepNumber = **********: expected"),
        (
            "'SSHNOIBC'\n };",
            "'SSHNOIBC'",
            "line 14: expected a value or the closing bracket, found the end of the file",
        ),
    ] {
        assert!(SURFACE.contains(from), "{from}");
        let message = message(&SURFACE.replace(from, to));
        assert!(message.contains(expected), "{to}: {message}");
    }
    assert_eq!(message(""), "x.meta: the key 'nDims' is missing");
}

#[test]
fn refuses_sizes_beyond_counting() {
    let big = "nDims=[2];dimList=[4294967296,1,4294967296,4294967296,1,4294967296];dataprec=['float32'];nrecords=[1];";
    assert!(message(big).contains("more bytes than can be counted"));
    assert!(message(&big.replace('2', "99")).contains("expected integers"));
    let long = vec![b' '; MAX_HEADER + 1];
    assert!(Header::parse("x.meta", &long).unwrap_err().to_string().contains("1048577 bytes are too many"));
}

proptest! {
    #[test]
    fn no_text_brings_it_down(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Header::parse("x", &text);
    }

    #[test]
    fn no_damage_brings_it_down(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
        let mut text = SURFACE.as_bytes().to_vec();
        let at = at % text.len();
        text[at] = byte;
        text.truncate(text.len().max(cut + 1) - cut);
        let _ = Header::parse("x", &text);
    }
}
