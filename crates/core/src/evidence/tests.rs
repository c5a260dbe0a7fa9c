use proptest::prelude::*;

use super::*;

const VERDICTS: [Verdict; 5] = [
    Verdict::InSync,
    Verdict::MissingOnPrimary,
    Verdict::MissingOnFallback,
    Verdict::Mismatched,
    Verdict::Pending,
];

fn many(number: usize) -> Evidence {
    let mut builder = Evidence::builder();
    for index in 0..number {
        builder.insert("web", &format!("v{index}"), VERDICTS[index % VERDICTS.len()]);
    }
    builder.build()
}

fn slices(shards: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    shards.iter().map(Vec::as_slice)
}

#[test]
fn what_was_inserted_is_found_and_nothing_else() {
    let evidence = many(1000);
    assert_eq!(evidence.len(), 1000);
    for index in 0..1000 {
        assert_eq!(evidence.lookup("web", &format!("v{index}")), Some(VERDICTS[index % 5]));
    }
    assert_eq!(evidence.lookup("web", "v1000"), None);
    assert_eq!(evidence.lookup("we", "bv1"), None);
    assert_eq!(Evidence::default().lookup("web", "v1"), None);
}

#[test]
fn the_more_cautious_of_two_verdicts_holds_in_either_order() {
    use Verdict::{InSync, Mismatched, MissingOnFallback, MissingOnPrimary, Pending};
    let cases = [
        (InSync, Pending, Pending),
        (InSync, MissingOnPrimary, MissingOnPrimary),
        (InSync, Mismatched, Mismatched),
        (Pending, MissingOnFallback, MissingOnFallback),
        (Pending, Mismatched, Mismatched),
        (MissingOnPrimary, MissingOnFallback, Mismatched),
        (MissingOnPrimary, Mismatched, Mismatched),
        (Pending, Pending, Pending),
    ];
    for (a, b, expected) in cases {
        for (first, second) in [(a, b), (b, a)] {
            let evidence = Evidence::builder()
                .insert("web", "1", first)
                .insert("web", "1", second)
                .build();
            assert_eq!(evidence.len(), 1);
            assert_eq!(evidence.lookup("web", "1"), Some(expected), "{first:?} and {second:?}");
        }
    }
}

#[test]
fn shards_stay_below_their_size_and_are_read_in_any_order() {
    let evidence = many(1000);
    let mut shards = evidence.encode(1024);
    assert!(shards.len() > 1);
    assert!(shards.iter().all(|shard| shard.len() <= 1024));
    shards.reverse();
    assert_eq!(Evidence::decode(slices(&shards)), Ok(evidence));
}

#[test]
fn ten_thousand_tags_and_their_digests_take_less_than_200_kilobytes() {
    let shards = many(20_000).encode(500_000);
    assert_eq!(shards.len(), 1);
    assert!(shards[0].len() < 200_000, "{}", shards[0].len());
}

#[test]
fn nothing_verified_is_one_shard_and_no_shard_is_incomplete() {
    let shards = Evidence::default().encode(500_000);
    assert_eq!(shards.len(), 1);
    assert_eq!(Evidence::decode(slices(&shards)), Ok(Evidence::default()));
    assert_eq!(
        Evidence::decode([]),
        Err(EvidenceError::Incomplete {
            present: 0,
            expected: 1
        })
    );
}

#[test]
fn a_size_too_small_for_one_record_still_makes_shards() {
    let evidence = many(3);
    let shards = evidence.encode(0);
    assert_eq!(shards.len(), 3);
    assert_eq!(Evidence::decode(slices(&shards)), Ok(evidence));
}

#[test]
fn the_records_of_a_missing_shard_are_absent() {
    let evidence = many(100);
    let shards = evidence.encode(200);
    let (partial, errors) = Evidence::decode_lossy(slices(&shards[1..]));
    assert_eq!(
        errors,
        [EvidenceError::Incomplete {
            present: shards.len() - 1,
            expected: shards.len()
        }]
    );
    assert!(partial.len() < evidence.len());
    assert!(
        partial
            .records()
            .all(|record| evidence.records().any(|original| original == record))
    );
    // The same shard twice does not stand in for another.
    let twice = slices(&shards[1..]).chain([shards[1].as_slice()]);
    assert!(Evidence::decode(twice).is_err());
}

#[test]
fn each_kind_of_damage_has_its_error() {
    let good = many(10).encode(500_000).remove(0);
    let mut version = good.clone();
    version[4] = 9;
    let mut verdict = good.clone();
    *verdict.last_mut().unwrap() ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    let cases: &[(&str, &[u8], EvidenceError)] = &[
        ("empty", b"", EvidenceError::NoHeader),
        ("other", b"{\"json\": true}", EvidenceError::NoHeader),
        ("magic only", b"CTEV", EvidenceError::NoHeader),
        ("version", &version, EvidenceError::UnknownVersion { version: 9 }),
        ("one bit", &verdict, EvidenceError::Damaged),
        ("cut off", &good[..good.len() - 1], EvidenceError::Damaged),
        ("header only", &good[..20], EvidenceError::Damaged),
        ("trailing", &longer, EvidenceError::Damaged),
    ];
    for (name, shard, error) in cases {
        assert_eq!(Evidence::decode([*shard]), Err(error.clone()), "{name}");
        assert!(Evidence::decode_lossy([*shard]).0.is_empty(), "{name}");
    }
}

#[test]
fn a_shard_that_was_not_rewritten_yet_never_makes_a_tag_more_in_sync() {
    let old = Evidence::builder()
        .insert("web", "1", Verdict::InSync)
        .insert("web", "2", Verdict::Mismatched)
        .build();
    let new = Evidence::builder()
        .insert("web", "1", Verdict::MissingOnFallback)
        .insert("web", "2", Verdict::InSync)
        .build();
    let shards = [old.encode(500_000), new.encode(500_000)].concat();
    let (evidence, errors) = Evidence::decode_lossy(slices(&shards));
    assert_eq!(errors, [EvidenceError::MixedRevisions]);
    assert_eq!(evidence.lookup("web", "1"), Some(Verdict::MissingOnFallback));
    assert_eq!(evidence.lookup("web", "2"), Some(Verdict::Mismatched));
}

#[test]
fn the_revision_depends_on_the_records_alone() {
    let one = Evidence::builder()
        .insert("a", "1", Verdict::InSync)
        .insert("b", "1", Verdict::Pending)
        .build();
    let other_order = Evidence::builder()
        .insert("b", "1", Verdict::Pending)
        .insert("a", "1", Verdict::InSync)
        .build();
    let changed = Evidence::builder()
        .insert("a", "1", Verdict::InSync)
        .insert("b", "1", Verdict::InSync)
        .build();
    assert_eq!(one.revision(), other_order.revision());
    assert_ne!(one.revision(), changed.revision());
    assert!(one.revision().parse::<crate::digest::Digest>().is_ok());
    assert_eq!(
        one.revision(),
        Evidence::decode(slices(&one.encode(100))).unwrap().revision()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(mut shards in proptest::collection::vec(any::<Vec<u8>>(), 0..4), header in any::<bool>()) {
        if header {
            for shard in &mut shards {
                shard.splice(0..0, *b"CTEV\x01");
            }
        }
        let (evidence, errors) = Evidence::decode_lossy(slices(&shards));
        prop_assert!(evidence.is_empty());
        prop_assert!(!errors.is_empty());
    }

    #[test]
    fn a_flipped_bit_never_adds_or_changes_a_record(position in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let evidence = many(20);
        let mut shards = evidence.encode(150);
        let shard = position.index(shards.len());
        let byte = position.index(shards[shard].len());
        shards[shard][byte] ^= 1 << bit;
        let (read, errors) = Evidence::decode_lossy(slices(&shards));
        prop_assert!(!errors.is_empty());
        prop_assert!(read.records().all(|record| evidence.records().any(|original| original == record)));
    }
}
