package docs

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is what a page shows between ```sh or ```sql and ```, with what the comments right above it say of it. Readers of the page do not
// see these comments:
//
//	<!-- prints: TEXT -->        its output holds TEXT
//	<!-- in time: TEXT -->       likewise; it is run again until it does
//	<!-- background: TEXT -->    it is run in a terminal of its own and goes on; the next block waits until it has printed TEXT
//	<!-- elsewhere: TEXT -->     after it, one in the background prints TEXT
//	<!-- before: end the background -->  what runs in the background ends first, as by Ctrl-C
//	<!-- before: a new database -->      the page begins anew, with the database as it was at first
//	<!-- as: ROLE -->            SQL is run as this role; otherwise as the superuser
//	<!-- not run: WHY -->        it is not run
type block struct {
	page       string
	line       int
	language   string
	text       string
	directives []directive
}

type directive struct{ word, text string }

func (b *block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// all returns what the directives with this word say.
func (b *block) all(word string) (texts []string) {
	for _, d := range b.directives {
		if d.word == word {
			texts = append(texts, d.text)
		}
	}
	return texts
}

func (b *block) has(word string) bool { return len(b.all(word)) > 0 }

var (
	words      = []string{"prints", "in time", "background", "elsewhere", "before", "as", "not run"}
	comment    = regexp.MustCompile(`^<!-- ([a-z ]+): (.+) -->$`)
	fence      = regexp.MustCompile("^ *```(\\w*)$")
	beforeEnd  = "end the background"
	beforeAnew = "a new database"
)

// readPage returns the sh and sql blocks of a page. A directive that no block follows is an error, and so is one right above a block that there is not.
func readPage(page, text string) (blocks []*block, err error) {
	var said []directive
	var open *block
	inside, unknown := false, ""
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		if unknown != "" && m != nil {
			return nil, fmt.Errorf("%s:%d: %q is none of %s", page, i, unknown, strings.Join(words, ", "))
		}
		unknown = ""
		switch {
		case inside && m != nil:
			inside, open = false, nil
		case open != nil:
			open.text += line + "\n"
		case inside:
		case m != nil:
			inside = true
			if m[1] == "sh" || m[1] == "sql" {
				open = &block{page: page, line: i + 1, language: m[1], directives: said}
				blocks, said = append(blocks, open), nil
			}
		default:
			if c := comment.FindStringSubmatch(line); c != nil && slices.Contains(words, c[1]) {
				said = append(said, directive{c[1], c[2]})
				continue
			} else if c != nil {
				unknown = c[1]
			}
		}
		if len(said) > 0 {
			return nil, fmt.Errorf("%s:%d: <!-- %s: %s --> stands above no block of sh or sql", page, i+1, said[0].word, said[0].text)
		}
	}
	for _, b := range blocks {
		for _, text := range b.all("before") {
			if text != beforeEnd && text != beforeAnew {
				return nil, fmt.Errorf("%s: before: %q is neither %q nor %q", b, text, beforeEnd, beforeAnew)
			}
		}
	}
	return blocks, nil
}

func TestReadPage(t *testing.T) {
	text := strings.Join([]string{
		"# A page", "", "<!-- prints: one -->", "<!-- prints: two -->", "```sh", "echo one", "```", "```go", "```", "", "```sql", "SELECT 1;", "```",
	}, "\n")
	blocks, err := readPage("a.md", text)
	if err != nil || len(blocks) != 2 {
		t.Fatalf("got %d blocks, %v", len(blocks), err)
	}
	if b := blocks[0]; b.String() != "a.md:5" || b.text != "echo one\n" || !slices.Equal(b.all("prints"), []string{"one", "two"}) {
		t.Errorf("the first block is %+v", *b)
	}
	if b := blocks[1]; b.language != "sql" || len(b.directives) != 0 {
		t.Errorf("the second block is %+v", *b)
	}
	for text, want := range map[string]string{
		"<!-- prints: x -->\n\n```sh\n```":              "stands above no block",
		"<!-- prints: x -->\n```go\n```":                "stands above no block",
		"<!-- shows: x -->\n```sh\n```":                 `"shows" is none of`,
		"<!-- before: some coffee -->\n```sh\nx\n```\n": "is neither",
	} {
		if _, err := readPage("a.md", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got the error %v, want %q", text, err, want)
		}
	}
}

// pageBlocks reads a page of this directory.
func pageBlocks(t *testing.T, page string) []*block {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := readPage(page, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}
