//! The node's name in letters of three rows, so that it can be read across a room.

/// Rows of a letter: five pixels, two to a character cell.
pub(super) const ROWS: usize = 3;
/// Pixel rows of a glyph; the sixth stays empty.
const PIXEL_ROWS: usize = 5;

/// `name` in big letters, or `None` if a letter has no glyph or it is wider than `columns`.
pub(super) fn big(name: &str, columns: usize) -> Option<[String; ROWS]> {
    let glyphs: Vec<_> = name
        .chars()
        .map(|c| glyph(c.to_ascii_lowercase()))
        .collect::<Option<_>>()?;
    let mut rows = [String::new(), String::new(), String::new()];
    for glyph in glyphs {
        for (index, row) in rows.iter_mut().enumerate() {
            let (upper, lower) = (
                glyph[2 * index],
                glyph.get(2 * index + 1).copied().unwrap_or_default(),
            );
            let width = glyph
                .iter()
                .map(|pixels| pixels.len())
                .max()
                .unwrap_or_default();
            row.extend((0..width).map(|column| cell(lit(upper, column), lit(lower, column))));
            row.push(' ');
        }
    }
    (!name.is_empty() && rows[0].chars().count() <= columns).then_some(rows)
}

fn lit(pixels: &str, column: usize) -> bool {
    pixels.as_bytes().get(column) == Some(&b'#')
}

fn cell(upper: bool, lower: bool) -> char {
    match (upper, lower) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    }
}

/// Five rows of pixels for each character a host name may have.
fn glyph(c: char) -> Option<[&'static str; PIXEL_ROWS]> {
    Some(match c {
        'a' => ["###", "# #", "###", "# #", "# #"],
        'b' => ["## ", "# #", "## ", "# #", "## "],
        'c' => ["###", "#  ", "#  ", "#  ", "###"],
        'd' => ["## ", "# #", "# #", "# #", "## "],
        'e' => ["###", "#  ", "## ", "#  ", "###"],
        'f' => ["###", "#  ", "## ", "#  ", "#  "],
        'g' => ["###", "#  ", "# #", "# #", "###"],
        'h' => ["# #", "# #", "###", "# #", "# #"],
        'i' => ["#", "#", "#", "#", "#"],
        'j' => ["  #", "  #", "  #", "# #", "###"],
        'k' => ["# #", "# #", "## ", "# #", "# #"],
        'l' => ["#  ", "#  ", "#  ", "#  ", "###"],
        'm' => ["#   #", "## ##", "# # #", "#   #", "#   #"],
        'n' => ["#  #", "## #", "# ##", "#  #", "#  #"],
        'o' => ["###", "# #", "# #", "# #", "###"],
        'p' => ["###", "# #", "###", "#  ", "#  "],
        'q' => ["###", "# #", "# #", "###", "  #"],
        'r' => ["###", "# #", "## ", "# #", "# #"],
        's' => ["###", "#  ", "###", "  #", "###"],
        't' => ["###", " # ", " # ", " # ", " # "],
        'u' => ["# #", "# #", "# #", "# #", "###"],
        'v' => ["# #", "# #", "# #", "# #", " # "],
        'w' => ["#   #", "#   #", "# # #", "## ##", "#   #"],
        'x' => ["# #", "# #", " # ", "# #", "# #"],
        'y' => ["# #", "# #", "###", " # ", " # "],
        'z' => ["###", "  #", " # ", "#  ", "###"],
        '0' => ["###", "# #", "# #", "# #", "###"],
        '1' => ["## ", " # ", " # ", " # ", "###"],
        '2' => ["###", "  #", "###", "#  ", "###"],
        '3' => ["###", "  #", " ##", "  #", "###"],
        '4' => ["# #", "# #", "###", "  #", "  #"],
        '5' => ["###", "#  ", "###", "  #", "###"],
        '6' => ["###", "#  ", "###", "# #", "###"],
        '7' => ["###", "  #", "  #", "  #", "  #"],
        '8' => ["###", "# #", "###", "# #", "###"],
        '9' => ["###", "# #", "###", "  #", "###"],
        '-' => ["   ", "   ", "###", "   ", "   "],
        '.' => [" ", " ", " ", " ", "#"],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_name_character_has_a_glyph() {
        for c in ('a'..='z').chain('0'..='9').chain("-.".chars()) {
            assert!(big(&c.to_string(), 80).is_some(), "{c}");
        }
    }

    #[test]
    fn draws_two_pixels_a_cell() {
        let rows = big("7-", 80).unwrap();
        assert_eq!(rows, ["▀▀█     ", "  █ ▀▀▀ ", "  ▀     "]);
    }

    #[test]
    fn a_name_that_does_not_fit_is_left_to_plain_text() {
        assert_eq!(big("mnemos-a1b2c3", 20), None);
        assert_eq!(big("нода", 80), None);
        assert_eq!(big("", 80), None);
    }
}
