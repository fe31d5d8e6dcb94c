//! Stop strings: text passes until one of them is complete, and no part of it is ever emitted.
//!
//! The engine would check them one token late and after the text was sent, so they are not given to it.

/// What may be emitted after more text arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Text in front of any possible stop string.
    pub text: String,
    /// A stop string is complete: the answer ends here.
    pub stopped: bool,
}

/// Holds back text that may turn out to be the beginning of a stop string.
#[derive(Debug)]
pub struct StopFilter {
    stops: Vec<String>,
    held: String,
}

impl StopFilter {
    /// A filter for these strings, none of which may be empty.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes more text. Where it is cut makes no difference: the stop string that is complete first wins.
    pub fn push(&mut self, text: &str) -> Passed {
        self.held.push_str(text);
        if let Some(start) = self.first_complete() {
            self.held.truncate(start);
            return Passed {
                text: std::mem::take(&mut self.held),
                stopped: true,
            };
        }
        let kept = self.possible_start();
        let rest = self.held.split_off(kept);
        Passed {
            text: std::mem::replace(&mut self.held, rest),
            stopped: false,
        }
    }

    /// What was held back when the answer ends without a stop string.
    pub fn finish(self) -> String {
        self.held
    }

    /// Where the stop string that ends first begins; of several ending there, the longest.
    fn first_complete(&self) -> Option<usize> {
        let found = |stop: &String| {
            self.held
                .find(stop.as_str())
                .map(|at| (at + stop.len(), at))
        };
        self.stops
            .iter()
            .filter_map(found)
            .min()
            .map(|(_, start)| start)
    }

    /// The first place from which everything up to the end is the beginning of a stop string.
    fn possible_start(&self) -> usize {
        let is_start = |at: usize| {
            self.stops
                .iter()
                .any(|stop| stop.starts_with(&self.held[at..]))
        };
        let mut places = self.held.char_indices().map(|(at, _)| at);
        places.find(|&at| is_start(at)).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut filter = StopFilter::new(stops.iter().map(ToString::to_string).collect());
        let mut out = String::new();
        for piece in pieces {
            let passed = filter.push(piece);
            out.push_str(&passed.text);
            if passed.stopped {
                return (out, true);
            }
        }
        out.push_str(&filter.finish());
        (out, false)
    }

    #[test]
    fn a_stop_string_across_tokens_is_not_emitted() {
        assert_eq!(
            run(&["END"], &["one E", "N", "D two"]),
            ("one ".into(), true)
        );
        assert_eq!(
            run(&["END"], &["one E", "N", "d two"]),
            ("one ENd two".into(), false)
        );
        assert_eq!(
            run(&["\n\n"], &["a\n", "b\n", "\nc"]),
            ("a\nb".into(), true)
        );
    }

    #[test]
    fn a_beginning_is_held_back_and_released_at_the_end() {
        let mut filter = StopFilter::new(vec!["END".into()]);
        assert_eq!(
            filter.push("xEN"),
            Passed {
                text: "x".into(),
                stopped: false
            }
        );
        assert_eq!(filter.finish(), "EN");
    }

    #[test]
    fn the_first_complete_stop_string_wins() {
        assert_eq!(run(&["abcd", "bc"], &["xabcd"]), ("xa".into(), true));
        assert_eq!(run(&["bc", "abc"], &["xabc"]), ("x".into(), true));
    }

    #[test]
    fn no_stop_strings_hold_nothing_back() {
        assert_eq!(StopFilter::new(Vec::new()).push("text").text, "text");
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            text in "[abé]{0,24}",
            stops in prop::collection::vec("[abé]{1,4}", 0..3),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let chars: Vec<char> = text.chars().collect();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
            places.extend([0, chars.len()]);
            places.sort_unstable();
            let pieces: Vec<String> =
                places.windows(2).map(|pair| chars[pair[0]..pair[1]].iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (out, stopped) = run(&stops, &pieces);
            prop_assert_eq!(&(out.clone(), stopped), &run(&stops, &[&text]));
            prop_assert!(text.starts_with(&out));
            prop_assert!(stops.iter().all(|stop| !out.contains(stop)));
            prop_assert_eq!(stopped, stops.iter().any(|stop| text.contains(stop)));
        }
    }
}
