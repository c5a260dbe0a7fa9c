use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

use super::group::{HASHED_HEADER, HEADER, fingerprint};
use super::*;
use crate::policy::{MirrorId, MirrorPolicy, Repositories, RepositoryRule, SidePolicy};
use crate::tags::TagFilter;

mod keys;

/// All that can be known, but nothing.
fn all_knowledge() -> Vec<Knowledge> {
    (1..=u8::MAX).filter_map(Knowledge::from_byte).collect()
}

fn any_knowledge() -> impl Strategy<Value = Knowledge> {
    prop::sample::select((0..=u8::MAX).filter_map(Knowledge::from_byte).collect::<Vec<_>>())
}

/// The numbers of all groups are the first bits, so small keys of 2^8 groups are far apart.
fn any_key() -> impl Strategy<Value = Key> {
    (any::<u8>(), 0..3_u64).prop_map(|(first, rest)| Key(u64::from(first) << 56 | rest))
}

fn any_place() -> impl Strategy<Value = GroupPlace> {
    (0..=MOST_BITS, any_key()).prop_map(|(bits, key)| GroupPlace::of(key, bits))
}

fn any_group() -> impl Strategy<Value = Group> {
    let tags = prop::collection::vec((any_key(), any_knowledge(), prop::option::of(any_key())), 0..40);
    let digests = prop::collection::vec((any_key(), any_knowledge()), 0..20);
    (any_place(), tags, digests).prop_map(|(place, tags, digests)| {
        let mut group = Group::builder(place);
        for (key, knowledge, digest) in tags {
            group.tag(key, knowledge, digest);
        }
        for (key, knowledge) in digests {
            group.digest(key, knowledge);
        }
        group.build()
    })
}

fn group(place: GroupPlace, tags: &[(u64, Knowledge)]) -> Arc<Group> {
    let mut group = Group::builder(place);
    for (key, knowledge) in tags {
        group.tag(Key(*key), *knowledge, None);
    }
    Arc::new(group.build())
}

fn knowledge(primary: Presence, fallback: Presence) -> Knowledge {
    let presence = Sides { primary, fallback };
    Knowledge {
        presence,
        same: false,
        flaws: Sides::default(),
    }
}

#[test]
fn knowledge_has_thirty_four_bytes_and_no_others() {
    // Two sides of five, and one digest where both are present, of which each has one of two flaws or none; without the one that knows
    // nothing.
    assert_eq!(all_knowledge().len(), 5 * 5 + 3 * 3 - 1);
    for byte in 0..=u8::MAX {
        match Knowledge::from_byte(byte) {
            Some(knowledge) => assert_eq!(knowledge.to_byte(), byte),
            None => assert!(
                byte & 0b0010_0000 != 0
                    || byte & 0b1100_0000 != 0
                    || byte & 3 == 3
                    || byte & 0b1100 == 0b1100
                    || byte & SAME != 0
            ),
        }
    }
    assert_eq!(Knowledge::from_byte(0), Some(Knowledge::NOTHING));
    assert_eq!(
        Knowledge::from_byte(Knowledge::IN_SYNC.to_byte()),
        Some(Knowledge::IN_SYNC)
    );
    for byte in [FLAWED.primary, FLAWED.fallback, FLAWED.primary | 2, FLAWED.fallback | 1] {
        assert_eq!(Knowledge::from_byte(byte), None, "{byte:#b}: flawed, and not there");
    }
    for byte in [3, 3 << 2, FLAWED.fallback | 3] {
        assert_eq!(Knowledge::from_byte(byte), None, "{byte:#b}: untrusted, and not flawed");
    }
    let untrusted = Sides {
        primary: None,
        fallback: Some(Flaw::Untrusted),
    };
    let byte = Knowledge::IN_SYNC.with_flaws(untrusted).to_byte();
    assert_eq!(byte, 0b1001_1101);
    assert_eq!(
        Knowledge::from_byte(byte),
        Some(Knowledge::IN_SYNC.with_flaws(untrusted))
    );
    assert_eq!(
        Knowledge::from_byte(SAME | 1),
        None,
        "one digest, and only one side has it"
    );
}

#[test]
fn merged_knowledge_is_the_cautious_one() {
    use Presence::{Absent, Present, Unknown};
    let cases = [
        (
            knowledge(Present, Unknown),
            knowledge(Absent, Unknown),
            knowledge(Absent, Unknown),
        ),
        (
            knowledge(Present, Unknown),
            knowledge(Unknown, Absent),
            knowledge(Present, Absent),
        ),
        (Knowledge::IN_SYNC, Knowledge::NOTHING, Knowledge::IN_SYNC),
        (Knowledge::IN_SYNC, knowledge(Present, Unknown), Knowledge::IN_SYNC),
        (
            Knowledge::IN_SYNC,
            knowledge(Present, Present),
            knowledge(Present, Present),
        ),
        (
            Knowledge::IN_SYNC,
            knowledge(Absent, Present),
            knowledge(Absent, Present),
        ),
        // Nothing says that it is one digest.
        (
            knowledge(Present, Unknown),
            knowledge(Unknown, Present),
            knowledge(Present, Present),
        ),
    ];
    for (one, other, merged) in cases {
        assert_eq!(one.merge(other), merged, "{one:?} {other:?}");
        assert_eq!(other.merge(one), merged, "{other:?} {one:?}");
    }
}

#[test]
fn records_that_were_added_are_found_and_no_others() {
    let mut builder = Group::builder(GroupPlace::default());
    for number in 0..1_000 {
        builder.tag(Key(number << 40 | 7), all_knowledge()[number as usize % 9], None);
        builder.digest(Key(number << 41 | 9), Knowledge::IN_SYNC);
    }
    let evidence = Evidence::default().with(Arc::new(builder.build()));
    assert_eq!(evidence.len(), 2_000);
    for number in 0..1_000 {
        assert_eq!(
            evidence.tag(Key(number << 40 | 7)),
            Some(all_knowledge()[number as usize % 9])
        );
        assert_eq!(evidence.digest(Key(number << 41 | 9)), Some(Knowledge::IN_SYNC));
        assert_eq!(evidence.tag(Key(number << 41 | 9)), None, "a digest of a tag is no tag");
    }
    assert_eq!(evidence.tag(Key(8)), None);
    assert_eq!(Evidence::default().digest(Key(9)), None);
    assert!(Evidence::default().is_empty());
}

#[test]
fn record_of_another_group_is_left_out() {
    let place = GroupPlace { bits: 1, index: 1 };
    let built = group(place, &[(1, Knowledge::IN_SYNC), (1 << 63, Knowledge::IN_SYNC)]);
    assert_eq!(built.len(), 1);
    assert_eq!(built.tag(Key(1 << 63)), Some(Knowledge::IN_SYNC));
}

#[test]
fn place_is_written_as_bits_and_index() {
    assert_eq!(GroupPlace { bits: 8, index: 0xfe }.to_string(), "8xfe");
    assert_eq!(GroupPlace::default().to_string(), "0x0");
    assert_eq!(GroupPlace::of(Key(u64::MAX), 6), GroupPlace { bits: 6, index: 63 });
    assert_eq!(GroupPlace::of(Key(u64::MAX), 99).bits, MOST_BITS);
}

#[test]
fn group_takes_22_bytes_for_a_tag_in_sync() {
    let mut builder = Group::builder(GroupPlace::default());
    for number in 0..1_000 {
        builder.tag(Key(number), Knowledge::IN_SYNC, Some(Key(number << 32)));
        builder.digest(Key(number << 32), Knowledge::IN_SYNC);
    }
    assert_eq!(builder.build().size(), 32 + 22 * 1_000);
}

#[test]
fn each_kind_of_damage_has_its_error() {
    let good = group(
        GroupPlace::default(),
        &[(1, Knowledge::IN_SYNC), (2, Knowledge::IN_SYNC)],
    )
    .encode();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut first = good.clone();
    first[4] = 1;
    let longer = [good.as_slice(), &[0]].concat();
    let cases: &[(&str, &[u8], EvidenceError)] = &[
        ("empty", b"", EvidenceError::NoHeader),
        ("other", b"{\"json\": true}", EvidenceError::NoHeader),
        ("magic only", b"CTEV", EvidenceError::NoHeader),
        (
            "the first version",
            &first,
            EvidenceError::UnknownVersion { version: 1 },
        ),
        (
            "a later version",
            &changed(4, 3),
            EvidenceError::UnknownVersion { version: 3 },
        ),
        ("one bit", &changed(good.len() - 1, 0), EvidenceError::Damaged),
        ("place", &changed(7, 1), EvidenceError::Damaged),
        (
            "revision",
            &changed(HASHED_HEADER, good[HASHED_HEADER] ^ 1),
            EvidenceError::Damaged,
        ),
        ("cut off", &good[..good.len() - 1], EvidenceError::Damaged),
        ("header only", &good[..HEADER], EvidenceError::Damaged),
        ("trailing", &longer, EvidenceError::Damaged),
    ];
    for (name, bytes, error) in cases {
        assert_eq!(Group::decode(bytes), Err(error.clone()), "{name}");
    }
}

/// The same bytes with a right checksum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= HEADER {
        let right = fingerprint(&bytes);
        bytes[HASHED_HEADER..HEADER].copy_from_slice(&right);
    }
    bytes
}

#[test]
fn records_without_meaning_are_refused_with_a_right_checksum() {
    let place = GroupPlace { bits: 1, index: 0 };
    let mut builder = Group::builder(place);
    builder.tag(Key(1), Knowledge::IN_SYNC, Some(Key(9))).tag(
        Key(2),
        knowledge(Presence::Present, Presence::Unknown),
        None,
    );
    builder.digest(Key(9), Knowledge::IN_SYNC);
    let good = builder.build().encode();
    assert!(Group::decode(&sealed(good.clone())).is_ok());
    let edits: [(&str, usize, u8); 9] = [
        ("more bits than there are", 5, 9),
        ("index beyond the groups", 7, 2),
        ("more tags than there are", 11, 3),
        ("more digests than there are", 15, 2),
        ("key of another group", HEADER, 0x80),
        ("keys out of order", HEADER + 7, 3),
        ("knowledge of nothing", HEADER + 12, 0),
        ("stamp of what is not in sync", HEADER + 13 + 11, 1),
        ("digest that differs from itself", good.len() - 1, 0b0101),
    ];
    for (name, at, byte) in edits {
        let mut bytes = good.clone();
        bytes[at] = byte;
        assert_eq!(Group::decode(&sealed(bytes)), Err(EvidenceError::Damaged), "{name}");
    }
}

#[test]
fn revision_depends_on_the_records_and_the_place() {
    let records = [
        (1, Knowledge::IN_SYNC),
        (2, knowledge(Presence::Present, Presence::Absent)),
    ];
    let one = group(GroupPlace::default(), &records);
    let mut other_order = records;
    other_order.reverse();
    assert_eq!(one.revision(), group(GroupPlace::default(), &other_order).revision());
    assert_ne!(one.revision(), group(GroupPlace::default(), &records[..1]).revision());
    assert_ne!(
        one.revision(),
        group(GroupPlace { bits: 1, index: 0 }, &records).revision()
    );
}

#[test]
fn group_takes_the_place_of_the_one_before() {
    let place = GroupPlace { bits: 1, index: 1 };
    let old = group(place, &[(1 << 63, Knowledge::IN_SYNC)]);
    let new = group(place, &[(1 << 63, knowledge(Presence::Present, Presence::Absent))]);
    let other = group(GroupPlace { bits: 1, index: 0 }, &[(5, Knowledge::IN_SYNC)]);
    let before = Evidence::default().with(old).with(Arc::clone(&other));
    let after = before.with(new);
    assert_eq!(
        before.tag(Key(1 << 63)),
        Some(Knowledge::IN_SYNC),
        "what was read stays what it is"
    );
    assert_eq!(after.tag(Key(1 << 63)).unwrap().presence.fallback, Presence::Absent);
    assert!(Arc::ptr_eq(&after.groups()[0], &other), "the others are shared");
    let without = after.without(place);
    assert_eq!(
        (without.tag(Key(1 << 63)), without.tag(Key(5))),
        (None, Some(Knowledge::IN_SYNC))
    );
    assert_eq!(without.without(place).groups().len(), 1);
}

#[test]
fn groups_of_two_sizes_are_merged_cautiously() {
    let coarse = group(
        GroupPlace::default(),
        &[
            (1, Knowledge::IN_SYNC),
            (2, knowledge(Presence::Present, Presence::Absent)),
        ],
    );
    let fine = group(
        GroupPlace { bits: 3, index: 0 },
        &[
            (1, knowledge(Presence::Absent, Presence::Present)),
            (2, Knowledge::IN_SYNC),
            (3, Knowledge::IN_SYNC),
        ],
    );
    let evidence = Evidence::default().with(coarse).with(fine);
    assert_eq!(
        evidence.tag(Key(1)),
        Some(knowledge(Presence::Absent, Presence::Present))
    );
    assert_eq!(
        evidence.tag(Key(2)),
        Some(knowledge(Presence::Present, Presence::Absent))
    );
    assert_eq!(evidence.tag(Key(3)), Some(Knowledge::IN_SYNC));
}

#[test]
fn digest_absent_by_itself_is_absent_whatever_tags_say() {
    let mut by_tag = Group::builder(GroupPlace { bits: 1, index: 1 });
    by_tag
        .digest(Key(7), Knowledge::IN_SYNC)
        .digest(Key(8), knowledge(Presence::Present, Presence::Unknown));
    let by_itself = group(
        GroupPlace { bits: 1, index: 0 },
        &[(7, knowledge(Presence::Unknown, Presence::Absent))],
    );
    let evidence = Evidence::default().with(Arc::new(by_tag.build())).with(by_itself);
    assert_eq!(
        evidence.digest(Key(7)),
        Some(knowledge(Presence::Present, Presence::Absent))
    );
    assert_eq!(
        evidence.digest(Key(8)),
        Some(knowledge(Presence::Present, Presence::Unknown))
    );
    assert_eq!(evidence.digest(Key(9)), None);
}

#[test]
fn digest_on_both_sides_by_two_tags_is_one_digest() {
    let mut one = Group::builder(GroupPlace { bits: 1, index: 0 });
    one.digest(Key(7), knowledge(Presence::Present, Presence::Unknown));
    let mut other = Group::builder(GroupPlace { bits: 1, index: 1 });
    other.digest(Key(7), knowledge(Presence::Unknown, Presence::Present));
    let evidence = Evidence::default()
        .with(Arc::new(one.build()))
        .with(Arc::new(other.build()));
    assert_eq!(evidence.digest(Key(7)), Some(Knowledge::IN_SYNC));
}

#[test]
fn tag_stands_for_the_digest_that_both_sides_had() {
    let place = GroupPlace::default();
    let tied = |place: GroupPlace, digest: u64| {
        let mut group = Group::builder(place);
        group.tag(Key(1), Knowledge::IN_SYNC, Some(Key(digest)));
        Arc::new(group.build())
    };
    let evidence = Evidence::default().with(tied(place, 5));
    assert!(evidence.stands_for(Key(1), Key(5)));
    assert!(!evidence.stands_for(Key(1), Key(6)));
    assert!(!evidence.stands_for(Key(2), Key(5)));
    let contradicted = evidence.with(tied(GroupPlace { bits: 1, index: 0 }, 6));
    assert!(!contradicted.stands_for(Key(1), Key(5)));
}

proptest! {
    #[test]
    fn merge_claims_nothing_that_one_of_the_two_denies(one in any_knowledge(), other in any_knowledge()) {
        let merged = one.merge(other);
        prop_assert_eq!(merged, other.merge(one));
        prop_assert_eq!(merged.merge(one), merged);
        prop_assert_eq!(one.merge(one), one);
        prop_assert_eq!(one.merge(Knowledge::NOTHING), one);
        prop_assert_eq!(Knowledge::from_byte(merged.to_byte()), Some(merged));
        for side in Side::ALL {
            let said = [one.presence[side], other.presence[side]];
            prop_assert!(said.contains(&merged.presence[side]));
            prop_assert_eq!(merged.presence[side] == Presence::Absent, said.contains(&Presence::Absent));
            prop_assert_eq!(merged.presence[side] == Presence::Unknown, said == [Presence::Unknown; 2]);
        }
        let differs = |knowledge: Knowledge| knowledge.is_on_both() && !knowledge.same;
        prop_assert!(!merged.same || (one.same || other.same) && !differs(one) && !differs(other));
    }

    #[test]
    fn group_is_read_as_it_was_written(group in any_group()) {
        let bytes = group.encode();
        prop_assert_eq!(bytes.len(), group.size());
        let read = Group::decode(&bytes);
        prop_assert_eq!(read.as_ref(), Ok(&group));
        prop_assert_eq!(read.map(|read| (read.place(), read.revision(), read.len())), Ok((group.place(), group.revision(), group.len())));
    }

    #[test]
    fn changed_byte_is_refused(group in any_group(), at in any::<Index>(), bits in 1..=u8::MAX) {
        let mut bytes = group.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        prop_assert!(Group::decode(&bytes).is_err());
    }

    #[test]
    fn cut_or_lengthened_group_is_refused(group in any_group(), at in any::<Index>(), more in prop::collection::vec(any::<u8>(), 1..20)) {
        let bytes = group.encode();
        prop_assert!(Group::decode(&bytes[..at.index(bytes.len())]).is_err());
        prop_assert!(Group::decode(&[bytes, more].concat()).is_err());
    }

    #[test]
    fn lookup_is_the_merge_of_all_groups_of_the_key(groups in prop::collection::vec(any_group(), 0..6), key in any_key()) {
        let mut evidence = Evidence::default();
        for group in groups {
            evidence = evidence.with(Arc::new(group));
        }
        let groups: Vec<_> = evidence.groups().iter().filter(|group| GroupPlace::of(key, group.place().bits) == group.place()).collect();
        let expected = groups.iter().filter_map(|group| group.tag(key)).reduce(Knowledge::merge);
        prop_assert_eq!(evidence.tag(key), expected);
        let digests = evidence.groups().iter().filter_map(|group| group.digest(key));
        let known = expected.into_iter().chain(digests).reduce(Knowledge::merge).unwrap_or_default();
        prop_assert_eq!(evidence.digest(key).unwrap_or_default().presence, known.presence);
        prop_assert_eq!(evidence.len(), evidence.groups().iter().map(|group| group.len()).sum::<usize>());
    }
}

/// Whatever is accepted is written as it was read, and holds nothing that can't be.
fn read_or_refused(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(group) = Group::decode(bytes) else {
        return Ok(());
    };
    prop_assert_eq!(group.encode(), bytes);
    let mut again = Group::builder(group.place());
    for record in group.tags() {
        prop_assert!(record.knowledge != Knowledge::NOTHING);
        again.record(record);
    }
    for (key, knowledge) in group.digests() {
        prop_assert!(knowledge != Knowledge::NOTHING);
        again.digest(key, knowledge);
    }
    prop_assert_eq!(again.build(), group);
    Ok(())
}

#[test]
fn fuzzed_groups_are_refused_or_written_as_they_were_read() {
    let splice = (
        any::<Index>(),
        any::<Index>(),
        prop::collection::vec(any::<u8>(), 0..30),
    );
    let flips = prop::collection::vec((any::<Index>(), any::<u8>()), 0..6);
    let variants = (any_group(), flips, prop::option::weighted(0.3, splice), any::<bool>());
    let inputs = variants.prop_map(|(group, flips, splice, seal)| {
        let mut bytes = group.encode();
        for (at, bits) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        if let Some((from, to, with)) = splice {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            bytes.splice(from.min(to)..from.max(to), with);
        }
        // Without a right checksum nothing behind it is tried.
        if seal { sealed(bytes) } else { bytes }
    });
    let name = "fuzzed_groups_are_refused_or_written_as_they_were_read";
    catamaran_fuzz::run(file!(), name, &inputs, |bytes| read_or_refused(&bytes));
    catamaran_fuzz::run(
        file!(),
        name,
        &prop::collection::vec(any::<u8>(), 0..200),
        |mut bytes| {
            bytes.splice(0..0, *b"CTEV\x02");
            read_or_refused(&bytes)?;
            read_or_refused(&sealed(bytes))
        },
    );
}
