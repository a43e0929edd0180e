//! Aligned columns as Go's `text/tabwriter` makes them with padding 2 (spec/cli.md A0): scripts that
//! cut columns out of `flynn ps` depend on it.
//!
//! A cell that is not the last of its row belongs to a column; a column's width is that of its widest
//! cell in a run of neighbouring rows that have it, plus two. The last cell of a row is not padded.

/// Rows of cells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

const PADDING: usize = 2;

impl Table {
    /// An empty table.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A table that starts with a header.
    pub(crate) fn with_header(cells: &[&str]) -> Self {
        let mut table = Self::new();
        table.row(cells.iter().copied());
        table
    }

    /// Adds a row.
    pub(crate) fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The text, one line a row.
    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for (row, widths) in self.rows.iter().zip(&widths) {
            for (at, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if let Some(width) = widths.get(at) {
                    let missing = width.saturating_sub(cell.chars().count());
                    text.extend(std::iter::repeat_n(' ', missing));
                }
            }
            text.push('\n');
        }
        text
    }

    /// For each row the widths of its cells, the last one excepted.
    fn widths(&self) -> Vec<Vec<usize>> {
        let mut widths: Vec<Vec<usize>> =
            self.rows.iter().map(|row| vec![0; row.len().saturating_sub(1)]).collect();
        let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
        for column in 0..columns {
            let mut start = 0;
            while start < self.rows.len() {
                let in_run = |row: &usize| widths[*row].len() > column;
                let end =
                    (start..self.rows.len()).find(|row| !in_run(row)).unwrap_or(self.rows.len());
                let widest = (start..end).map(|row| self.rows[row][column].chars().count()).max();
                for row in &mut widths[start..end] {
                    row[column] = widest.unwrap_or(0) + PADDING;
                }
                start = end + 1;
            }
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[&[&str]], want: &str) {
        let mut table = Table::new();
        for row in rows {
            table.row(row.iter().copied());
        }
        assert_eq!(table.render(), want);
    }

    #[test]
    fn columns_are_two_apart_and_the_last_cell_is_bare() {
        check(&[&["ID", "NAME"], &["U1", "demo"]], "ID  NAME\nU1  demo\n");
        check(&[&["ID", "NAME"], &["long-one", "x"]], "ID        NAME\nlong-one  x\n");
        check(&[&["ID", "NAME"]], "ID  NAME\n");
        check(&[], "");
    }

    #[test]
    fn an_empty_last_cell_leaves_the_padding() {
        check(&[&["STATE", "ERROR"], &["running", ""]], "STATE    ERROR\nrunning  \n");
    }

    #[test]
    fn a_cell_without_a_header_stands_alone() {
        check(
            &[&["NAME", "URL"], &["a", "http://long.example"], &["b", "http://x", "(default)"]],
            "NAME  URL\na     http://long.example\nb     http://x  (default)\n",
        );
    }
}
