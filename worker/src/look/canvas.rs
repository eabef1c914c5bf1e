//! A page of pixels.

use super::colour::{PAPER, Rgb};
use super::font;

/// An image, with rows from the top.
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) height: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// Makes an empty page.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Canvas { width, height, pixels: vec![PAPER; width * height] }
    }

    /// Fills a rectangle. The part outside the page is ignored.
    pub(super) fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Rgb) {
        let right = (x + width).min(self.width);
        for row in y..(y + height).min(self.height) {
            if x < right {
                self.pixels[row * self.width + x..row * self.width + right].fill(colour);
            }
        }
    }

    /// Draws a frame of one pixel around a rectangle that does not touch the edge of the page.
    pub(super) fn frame(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Rgb) {
        self.fill(x - 1, y - 1, width + 2, 1, colour);
        self.fill(x - 1, y + height, width + 2, 1, colour);
        self.fill(x - 1, y, 1, height, colour);
        self.fill(x + width, y, 1, height, colour);
    }

    /// Draws a line of text. Each font pixel becomes a square of `scale` pixels.
    pub(super) fn text(&mut self, x: usize, y: usize, scale: usize, text: &str, colour: Rgb) {
        for (at, letter) in text.chars().enumerate() {
            for (column, row) in font::pixels(letter) {
                let left = x + (at * font::ADVANCE + column) * scale;
                self.fill(left, y + row * scale, scale, scale, colour);
            }
        }
    }

    /// Returns the width of a line of text in pixels.
    pub(super) fn text_width(text: &str, scale: usize) -> usize {
        (text.chars().count() * font::ADVANCE).saturating_sub(1) * scale
    }

    /// Returns the bytes of all pixels: red, green, blue.
    pub(super) fn bytes(&self) -> &[u8] {
        self.pixels.as_flattened()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_stays_on_the_page() {
        let mut page = Canvas::new(4, 3);
        page.text(2, 0, 2, "Wide", [0, 0, 0]);
        page.fill(3, 2, 10, 10, [1, 2, 3]);
        page.fill(9, 9, 1, 1, [9, 9, 9]);
        assert_eq!(page.bytes().len(), 36);
        assert_eq!(page.bytes()[33..], [1, 2, 3]);
        assert_eq!(Canvas::text_width("abc", 2), 34);
        assert_eq!(Canvas::text_width("", 2), 0);
    }
}
