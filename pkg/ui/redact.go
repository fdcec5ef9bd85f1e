package ui

import (
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// redacted stands where a secret was.
const redacted = "[redacted]"

// minSecret is the length below which a registered value is not cut out: a
// three-letter password would make ordinary words unreadable and still be found
// by its key.
const minSecret = 4

// Redactor cuts secrets out of text: registered values, values of keys that are
// named like a secret (password=..., "ldapPassword": "..."), private key
// blocks, passwords in URLs and HTTP signatures. It is safe for concurrent use.
type Redactor struct {
	mu      sync.RWMutex
	secrets []string
	rules   func() []rule
}

type rule struct {
	re   *regexp.Regexp
	with string
}

// NewRedactor returns a redactor that knows the patterns and no values.
func NewRedactor() *Redactor {
	return &Redactor{rules: sync.OnceValue(rules)} // compiled on first use: start-up stays short
}

// Add registers a value that must not appear, such as a passphrase just typed.
func (r *Redactor) Add(secret string) {
	if len(secret) < minSecret {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.secrets, secret) {
		r.secrets = append(r.secrets, secret)
		// The longest first: a secret that contains another goes whole.
		slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	}
}

// Redact returns text without the secrets.
func (r *Redactor) Redact(text string) string {
	r.mu.RLock()
	for _, s := range r.secrets {
		text = strings.ReplaceAll(text, s, redacted)
	}
	r.mu.RUnlock()
	if !strings.ContainsAny(text, "=:-") {
		return text
	}
	for _, rule := range r.rules() {
		text = rule.re.ReplaceAllString(text, rule.with)
	}
	return text
}

// Writer returns a writer that redacts each Write as a whole and passes it on.
// A secret split over two Writes is not seen: write whole lines.
func (r *Redactor) Writer(w io.Writer) io.Writer { return redactWriter{r, w} }

type redactWriter struct {
	r *Redactor
	w io.Writer
}

func (w redactWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.r.Redact(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func rules() []rule {
	const key = `[\w.\-]*(?:password|passwd|passphrase|secret|token|_pw|_pass|private_?key)[\w.\-]*`
	value := `("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"',;&]+)`
	return []rule{
		{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)`), "[private key redacted]"},
		// "key": "value" as in JSON; the key's own quotes tell it from prose.
		{regexp.MustCompile(`(?i)(["']` + key + `["']\s*:\s*)` + value), "${1}" + `"` + redacted + `"`},
		// key=value anywhere.
		{regexp.MustCompile(`(?i)(\b` + key + `\s*=\s*)` + value), "${1}" + redacted},
		// key: value at the start of a line, as in YAML; elsewhere a colon is prose.
		{regexp.MustCompile(`(?im)^(\s*(?:-\s+)?` + key + `:[ \t]+)` + value), "${1}" + redacted},
		{regexp.MustCompile(`(?i)(\bsignature=)"[^"]*"`), "${1}" + `"` + redacted + `"`},
		{regexp.MustCompile(`(\b[a-zA-Z][a-zA-Z0-9+.\-]*://[^\s/:@]*:)[^\s/@]+(@)`), "${1}" + redacted + "${2}"},
	}
}
