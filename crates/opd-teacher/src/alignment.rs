use opd_batch::SpanToken;
use opd_models::Spelled;

/// Tokens of a teacher and a student that are the same text: `(student's, teacher's)` tokens of
/// each span, in order from the first.
///
/// Where both texts end at `ends`, each side's last token ends the response and is a span.
pub(crate) fn align(student: &Spelled, teacher: &Spelled, ends: bool) -> Vec<(usize, usize)> {
    let same = student.text.bytes().zip(teacher.text.bytes()).take_while(|(a, b)| a == b).count();
    let mut spans = Vec::new();
    let (mut from, mut theirs) = ((0, 0), teacher.cuts.iter().peekable());
    for &(tokens, bytes) in student.cuts.iter().take_while(|(_, bytes)| *bytes <= same) {
        while theirs.next_if(|(_, other)| *other < bytes).is_some() {}
        if let Some(&(other, _)) = theirs.next_if(|(_, other)| *other == bytes) {
            spans.push((tokens - from.0, other - from.1));
            from = (tokens, other);
        }
    }
    let whole = student.text == teacher.text;
    let all = |spelled: &Spelled| spelled.cuts.last().map_or(0, |(tokens, _)| *tokens);
    if ends && whole && from == (all(student), all(teacher)) {
        spans.push((1, 1));
    }
    spans
}

/// The scores of a response of `n` tokens from the teacher's of its own tokens: each token has
/// the sum over its span, and a token beyond the last span none.
pub(crate) fn spread(
    spans: &[(usize, usize)],
    scores: &[Option<f32>],
    n: usize,
) -> (Vec<Option<f32>>, Vec<SpanToken>) {
    let (mut logprobs, mut places) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let mut rest = scores;
    for &(students, teachers) in spans {
        let (own, after) = rest.split_at(teachers.min(rest.len()));
        rest = after;
        let sum: Option<f64> = own.iter().map(|score| score.map(f64::from)).sum();
        logprobs.resize(logprobs.len() + students, sum.map(|sum| sum as f32));
        places.resize(places.len() + students - 1, SpanToken::Inside);
        places.push(SpanToken::End);
    }
    logprobs.resize(n, None);
    places.resize(n, SpanToken::Unaligned);
    (logprobs, places)
}

#[cfg(test)]
mod tests {
    use opd_batch::SpanToken::{End, Inside, Unaligned};
    use opd_models::Spelled;
    use proptest::prelude::*;

    use super::*;

    /// A text whose tokens are `pieces`.
    fn spelled(pieces: &[&str]) -> Spelled {
        let mut spelled = Spelled::default();
        for (i, piece) in pieces.iter().enumerate() {
            spelled.text.push_str(piece);
            spelled.cuts.push((i + 1, spelled.text.len()));
        }
        spelled
    }

    fn spans(student: &[&str], teacher: &[&str], ends: bool) -> Vec<(usize, usize)> {
        align(&spelled(student), &spelled(teacher), ends)
    }

    #[test]
    fn spans_are_the_least_that_both_cut() {
        let student = ["un", "believ", "able", "!"];
        assert_eq!(
            spans(&student, &["unbe", "liev", "able", "!"], false),
            [(2, 2), (1, 1), (1, 1)]
        );
        assert_eq!(spans(&student, &["unbelievable", "!"], true), [(3, 1), (1, 1), (1, 1)]);
        assert_eq!(spans(&student, &student, false), [(1, 1); 4]);
        assert_eq!(spans(&["abc"], &["a", "b", "c"], false), [(1, 3)]);
    }

    #[test]
    fn nothing_is_aligned_after_texts_part() {
        assert_eq!(spans(&["a", "b", "c"], &["a", "x", "c"], true), [(1, 1)]);
        assert_eq!(spans(&["a", "bc"], &["ab", "x"], true), []);
        assert_eq!(spans(&["a", "b"], &["a"], true), [(1, 1)], "the ends are not of one text");
        assert_eq!(spans(&[], &[], true), [(1, 1)], "an empty response that is ended");
        assert_eq!(spans(&[], &[], false), []);
    }

    #[test]
    fn tokens_inside_a_character_are_no_cuts() {
        // Two tokens of the student make up one character: its first ends nowhere.
        let student = Spelled { text: "a\u{e9}b".into(), cuts: vec![(1, 1), (3, 3), (4, 4)] };
        let teacher = spelled(&["a\u{e9}", "b"]);
        assert_eq!(align(&student, &teacher, false), [(3, 1), (1, 1)]);
    }

    #[test]
    fn scores_of_spans_are_sums() {
        let scores = [Some(-1.0), Some(-2.0), None, Some(-4.0), Some(-8.0)];
        let (logprobs, places) = spread(&[(2, 2), (1, 2), (1, 1)], &scores, 6);
        assert_eq!(logprobs, [Some(-3.0), Some(-3.0), None, Some(-8.0), None, None]);
        assert_eq!(places, [Inside, End, End, End, Unaligned, Unaligned]);
    }

    /// The text cut after each byte that is marked, and at its end.
    fn cut(text: &str, marks: &[bool]) -> Spelled {
        let places = (1..text.len()).filter(|&at| marks[at]).chain([text.len()]);
        let cuts = places.enumerate().map(|(i, at)| (i + 1, at)).collect();
        Spelled { text: text.into(), cuts }
    }

    proptest! {
        #[test]
        fn spans_cover_one_text_on_both_sides(
            text in "[a-z]{1,30}",
            ours in prop::collection::vec(any::<bool>(), 30),
            theirs in prop::collection::vec(any::<bool>(), 30),
            ends: bool,
        ) {
            let (student, teacher) = (cut(&text, &ours), cut(&text, &theirs));
            let spans = align(&student, &teacher, ends);
            let common = (1..text.len()).filter(|&at| ours[at] && theirs[at]).count() + 1;
            prop_assert_eq!(spans.len(), common + usize::from(ends));
            let (mut own, mut other) = (0, 0);
            for &(students, teachers) in &spans[..common] {
                own += students;
                other += teachers;
                prop_assert_eq!(student.cuts[own - 1].1, teacher.cuts[other - 1].1);
            }
            prop_assert_eq!((own, other), (student.cuts.len(), teacher.cuts.len()));
        }

        #[test]
        fn sums_lose_nothing(
            text in "[a-z]{1,30}",
            ours in prop::collection::vec(any::<bool>(), 30),
            theirs in prop::collection::vec(any::<bool>(), 30),
        ) {
            let (student, teacher) = (cut(&text, &ours), cut(&text, &theirs));
            let scores: Vec<_> = (0..teacher.cuts.len()).map(|i| Some(-(i as f32))).collect();
            let spans = align(&student, &teacher, false);
            let (logprobs, places) = spread(&spans, &scores, student.cuts.len());
            let ends = logprobs.iter().zip(&places).filter(|(_, place)| **place == End);
            let total: f32 = ends.map(|(score, _)| score.unwrap()).sum();
            prop_assert_eq!(total, scores.iter().flatten().sum::<f32>());
        }
    }
}
