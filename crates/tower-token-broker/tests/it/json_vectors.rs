//! JSONTestSuite in full: `y_` is read, `n_` is refused, and each `i_` has a pinned result.

use std::{collections::BTreeMap, fs};

use tower_token_broker::json::{JsonError, Limits, Value};

use crate::vectors;

/// The results for files that the suite leaves to the reader. A file with `i_` that is not listed
/// fails the test.
const DECIDED: [(&str, Option<JsonError>); 35] = [
    // Numbers are kept as text, so none is too large or too small.
    ("i_number_double_huge_neg_exp.json", None),
    ("i_number_huge_exp.json", None),
    ("i_number_neg_int_huge_exp.json", None),
    ("i_number_pos_double_huge_exp.json", None),
    ("i_number_real_neg_overflow.json", None),
    ("i_number_real_pos_overflow.json", None),
    ("i_number_real_underflow.json", None),
    ("i_number_too_big_neg_int.json", None),
    ("i_number_too_big_pos_int.json", None),
    ("i_number_very_big_negative_int.json", None),
    // Half a surrogate pair is no character.
    ("i_object_key_lone_2nd_surrogate.json", Some(JsonError::LoneSurrogate)),
    ("i_string_1st_surrogate_but_2nd_missing.json", Some(JsonError::LoneSurrogate)),
    ("i_string_1st_valid_surrogate_2nd_invalid.json", Some(JsonError::LoneSurrogate)),
    ("i_string_incomplete_surrogate_and_escape_valid.json", Some(JsonError::LoneSurrogate)),
    ("i_string_incomplete_surrogate_pair.json", Some(JsonError::LoneSurrogate)),
    ("i_string_incomplete_surrogates_escape_valid.json", Some(JsonError::LoneSurrogate)),
    ("i_string_invalid_lonely_surrogate.json", Some(JsonError::LoneSurrogate)),
    ("i_string_invalid_surrogate.json", Some(JsonError::LoneSurrogate)),
    ("i_string_inverted_surrogates_U+1D11E.json", Some(JsonError::LoneSurrogate)),
    ("i_string_lone_second_surrogate.json", Some(JsonError::LoneSurrogate)),
    // Only UTF-8, without a byte order mark.
    ("i_string_UTF-16LE_with_BOM.json", Some(JsonError::NotUtf8)),
    ("i_string_UTF-8_invalid_sequence.json", Some(JsonError::NotUtf8)),
    ("i_string_UTF8_surrogate_U+D800.json", Some(JsonError::NotUtf8)),
    ("i_string_invalid_utf-8.json", Some(JsonError::NotUtf8)),
    ("i_string_iso_latin_1.json", Some(JsonError::NotUtf8)),
    ("i_string_lone_utf8_continuation_byte.json", Some(JsonError::NotUtf8)),
    ("i_string_not_in_unicode_range.json", Some(JsonError::NotUtf8)),
    ("i_string_overlong_sequence_2_bytes.json", Some(JsonError::NotUtf8)),
    ("i_string_overlong_sequence_6_bytes.json", Some(JsonError::NotUtf8)),
    ("i_string_overlong_sequence_6_bytes_null.json", Some(JsonError::NotUtf8)),
    ("i_string_truncated-utf-8.json", Some(JsonError::NotUtf8)),
    ("i_structure_UTF-8_BOM_empty_object.json", Some(JsonError::NotUtf8)),
    ("i_string_utf16BE_no_BOM.json", Some(JsonError::NotUtf8)),
    ("i_string_utf16LE_no_BOM.json", Some(JsonError::NotUtf8)),
    // 128 levels are enough for any message.
    ("i_structure_500_nested_arrays.json", Some(JsonError::TooDeep)),
];

/// Valid by RFC 8259, but refused here, because readers would differ on them.
const STRICTER: [(&str, JsonError); 2] = [
    ("y_object_duplicated_key.json", JsonError::DuplicateMember),
    ("y_object_duplicated_key_and_value.json", JsonError::DuplicateMember),
];

#[test]
fn json_test_suite_is_decided_in_full() {
    let Some(folder) = vectors::folder("json-test-suite/test_parsing") else { return };
    let decided: BTreeMap<_, _> = DECIDED.into_iter().collect();
    let stricter: BTreeMap<_, _> = STRICTER.into_iter().collect();
    let mut run = 0;
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let bytes = fs::read(file.path()).unwrap();
        let read = Value::parse(&bytes, &Limits::default()).err();
        match name.split('_').next().unwrap() {
            "y" => assert_eq!(read, stricter.get(name.as_str()).copied(), "{name}"),
            "n" => assert!(read.is_some(), "{name}"),
            "i" => assert_eq!(
                read,
                *decided.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not decided")),
                "{name}"
            ),
            _ => panic!("{name}"),
        }
        run += 1;
    }
    assert!(run >= 316, "{run}");
}

#[test]
fn the_two_large_files_are_refused_by_depth() {
    for text in ["[".repeat(100_000), "[{\"\":".repeat(50_000)] {
        assert_eq!(
            Value::parse(text.as_bytes(), &Limits::default()).err(),
            Some(JsonError::TooDeep)
        );
    }
}

#[test]
fn what_others_transform_is_kept_or_refused() {
    let Some(folder) = vectors::folder("json-test-suite/test_transform") else { return };
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let bytes = fs::read(file.path()).unwrap();
        match Value::parse(&bytes, &Limits::default()) {
            // A value keeps its own bytes: no number is rounded, no name is normalized.
            Ok(value) => assert_eq!(value.raw().as_bytes(), bytes.trim_ascii(), "{name}"),
            Err(JsonError::DuplicateMember) => assert!(name.contains("same_key"), "{name}"),
            Err(JsonError::LoneSurrogate | JsonError::NotUtf8) => {
                assert!(name.contains("invalid") || name.contains("surrogate"), "{name}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
}
