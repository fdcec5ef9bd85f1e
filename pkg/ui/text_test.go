package ui

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func table(noHeader bool, fill func(t *Table)) string {
	u := New(Config{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &bytes.Buffer{}})
	t := u.NewTable(noHeader)
	fill(t)
	var b bytes.Buffer
	if err := t.Render(&b); err != nil {
		return "error: " + err.Error()
	}
	return b.String()
}

func TestTableIsLeftAlignedWithThreeSpacesAndNoTrailingOnes(t *testing.T) {
	fill := func(t *Table) {
		t.Header("NAME", "SIZE", "PUBLISHED")
		t.Row("base-64", 12345, time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("x", 3600)))
		t.Row("世界", nil, time.Time{})
		t.Row("short")
		t.Row("  kept", "a  b", "")
	}
	want := "" +
		"NAME      SIZE    PUBLISHED\n" +
		"base-64   12345   2026-01-02T02:04:05Z\n" +
		"世界      -       -\n" +
		"short\n" +
		"  kept    a  b    -\n"
	if got := table(false, fill); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	_, body, _ := strings.Cut(want, "\n")
	if got := table(true, fill); got != body {
		t.Errorf("-H: got\n%swant\n%s", got, body)
	}
}

func TestATableWithoutRowsIsItsHeader(t *testing.T) {
	if got := table(false, func(t *Table) { t.Header("ID", "STATE") }); got != "ID   STATE\n" {
		t.Errorf("%q", got)
	}
	if got := table(true, func(t *Table) { t.Header("ID", "STATE") }); got != "" {
		t.Errorf("-H: %q", got)
	}
}

func TestHostileCellsStayInTheirLineAndAreVisible(t *testing.T) {
	evil := "a\x1b[2J\x1b]0;pwned\x07\r\nb\tc\x7f\u0085\u202egnp.exe\xff"
	got := table(true, func(t *Table) { t.Row(evil, Styled{evil, Bad}) })
	if strings.Count(got, "\n") != 1 || strings.ContainsFunc(got[:len(got)-1], hostile) || !utf8.ValidString(got) {
		t.Errorf("raw: %q", got)
	}
	for _, want := range []string{`\x1b[2J`, `\x07`, `\r\nb\tc\x7f\x85\u202e`, `\xff`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not show %q", got, want)
		}
	}
}

func TestColourOnlyOnATerminalThatWantsIt(t *testing.T) {
	_, tt := openTTY(t)
	for name, tc := range map[string]struct {
		c    Config
		s    Settings
		want bool
	}{
		"terminal":   {Config{Out: tt.out}, Settings{}, true},
		"no-color":   {Config{Out: tt.out}, Settings{NoColor: true}, false},
		"dumb":       {Config{Out: tt.out, Term: "dumb"}, Settings{}, false},
		"pipe":       {Config{Out: &bytes.Buffer{}}, Settings{}, false},
		"only stdin": {Config{In: tt.in, Out: &bytes.Buffer{}, Err: tt.out}, Settings{}, false},
	} {
		u := New(tc.c)
		u.Set(tc.s)
		if got := u.OutPaint().Text(Bad, "x") != "x"; got != tc.want {
			t.Errorf("%s: coloured %v", name, got)
		}
	}
}

func TestJSONIsSafeOnATerminalAndMeansTheSame(t *testing.T) {
	in := map[string]string{"k": "<a&b>\x1b\x7f\u009b2J\u202e世"}
	var b bytes.Buffer
	if err := JSON(&b, in); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(strings.ReplaceAll(b.String(), "\n", ""), hostile) {
		t.Errorf("raw: %q", &b)
	}
	if !strings.Contains(b.String(), "<a&b>") {
		t.Errorf("escaped needlessly: %s", &b)
	}
	var back map[string]string
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["k"] != in["k"] {
		t.Errorf("%q, %v", back, err)
	}
}

func TestJSONLIsOneLinePerElement(t *testing.T) {
	for want, v := range map[string]any{
		"1\n2\n":            []int{1, 2},
		"":                  []int(nil),
		"{\"a\":\"\\n\"}\n": map[string]string{"a": "\n"},
	} {
		var b bytes.Buffer
		if err := JSONL(&b, v); err != nil || b.String() != want {
			t.Errorf("%v: %q, %v", v, &b, err)
		}
	}
	var b bytes.Buffer
	if err := JSON(&b, []string(nil)); err != nil || b.String() != "[]\n" {
		t.Errorf("nil slice: %q, %v", &b, err)
	}
}

func TestAListIsNeverNull(t *testing.T) {
	type inner struct {
		Names []string `json:"names"`
	}
	type outer struct {
		inner
		P     *inner           `json:"p"`
		L     []inner          `json:"l"`
		M     map[string]inner `json:"m"`
		Any   any              `json:"any"`
		Raw   json.RawMessage  `json:"raw"`
		Bytes []byte           `json:"bytes"`
		Gone  []string         `json:"gone,omitempty"`
		Nil   *inner           `json:"nil"`
		When  time.Time        `json:"when"`
		Deep  map[string][]int `json:"deep"`
		priv  []string
	}
	v := outer{P: &inner{}, L: []inner{{}}, M: map[string]inner{"k": {}}, Any: inner{}, Raw: json.RawMessage("1"), Deep: map[string][]int{"x": nil}}
	v.priv = nil
	const names = `{"names":[]}`
	want := `{"names":[],"p":` + names + `,"l":[` + names + `],"m":{"k":` + names + `},"any":` + names +
		`,"raw":1,"bytes":null,"nil":null,"when":"0001-01-01T00:00:00Z","deep":{"x":[]}}` + "\n"
	for _, in := range []any{v, &v} {
		if got, err := marshal(in, ""); err != nil || string(got) != want {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	}
	if got, err := marshal(nil, ""); err != nil || string(got) != "null\n" {
		t.Errorf("nil: %q, %v", got, err)
	}
}

func TestRedaction(t *testing.T) {
	r := NewRedactor()
	r.Add("opensesame")
	r.Add("opensesame2")
	r.Add("abc") // too short to cut out
	for in, want := range map[string]string{
		"tried opensesame twice":                        "tried [redacted] twice",
		"tried opensesame2":                             "tried [redacted]",
		"abc is a word":                                 "abc is a word",
		"PASSWORD=geheim x=1":                           "PASSWORD=[redacted] x=1",
		"ufds_ldap_root_pw='a b' x":                     "ufds_ldap_root_pw=[redacted] x",
		`{"ldapPassword": "a\"b", "n":1}`:               `{"ldapPassword": "[redacted]", "n":1}`,
		"  auth_token: abcdef":                          "  auth_token: [redacted]",
		"token: unexpected end":                         "token: [redacted] end",
		"at line 3: token: unexpected":                  "at line 3: token: unexpected",
		"https://u:pw@host/x?token=abc":                 "https://u:[redacted]@host/x?token=[redacted]",
		`Signature keyId="/a/keys/ff",signature="AAA="`: `Signature keyId="/a/keys/ff",signature="[redacted]"`,
		"-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nnext": "[private key redacted]\nnext",
		"-----BEGIN OPENSSH PRIVATE KEY-----\ncut":                                  "[private key redacted]",
		"-----BEGIN PUBLIC KEY-----":                                                "-----BEGIN PUBLIC KEY-----",
		"keyId=ab:cd monkey=1 primary_key=7":                                        "keyId=ab:cd monkey=1 primary_key=7",
		"http://127.0.0.1:8080/images/a@b":                                          "http://127.0.0.1:8080/images/a@b",
	} {
		if got := r.Redact(in); got != want {
			t.Errorf("%q:\n got %q\nwant %q", in, got, want)
		}
	}
}

func TestEverythingOnStderrIsRedacted(t *testing.T) {
	var errs bytes.Buffer
	u := New(Config{Out: &bytes.Buffer{}, Err: &errs})
	u.Redactor.Add("opensesame")
	u.Say("a opensesame")
	u.Warn("b password=%s", "geheim")
	p := u.NewProgress()
	p.Note("c opensesame")
	p.Close()
	if strings.Contains(errs.String(), "opensesame") || strings.Contains(errs.String(), "geheim") {
		t.Errorf("%q", &errs)
	}
}

func TestQuietAndVerboseDecideWhatIsSaid(t *testing.T) {
	for want, s := range map[string]Settings{
		"say\nwarn\n":         {},
		"warn\n":              {Quiet: true},
		"say\nwarn\ndetail\n": {Verbose: true},
	} {
		var errs bytes.Buffer
		u := New(Config{Out: &bytes.Buffer{}, Err: &errs})
		u.Set(s)
		u.Say("say")
		u.Warn("warn")
		u.Detail("detail")
		if errs.String() != want {
			t.Errorf("%+v: %q", s, &errs)
		}
	}
}

func TestBlockAlignsLabelsAndWrapsAtTheWidth(t *testing.T) {
	b := Block{Title: "imgapi_ping (ping)", Fields: []Field{
		{Label: "State", Lines: []string{"faulted"}},
		{Label: "Evidence", Lines: []string{"one two three four five six", "http://127.0.0.1/a/very/long/word/stays/whole"}},
		{Label: "Impact"},
		{Label: "Run", Lines: []string{"svcadm restart -s \x1bimgapi-standalone"}, Whole: true},
	}}
	want := `imgapi_ping (ping)
   State: faulted
Evidence: one two three four
          five six
          http://127.0.0.1/a/very/long/word/stays/whole
     Run: svcadm restart -s \x1bimgapi-standalone
`
	var got bytes.Buffer
	if err := b.Render(&got, Paint{}, 32); err != nil || got.String() != want {
		t.Errorf("%v, got\n%s", err, &got)
	}
}

func FuzzCleanLeavesNothingATerminalActsOn(f *testing.F) {
	f.Add("a\x1b[0m\r\n\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, hostile) {
			t.Errorf("%q -> %q", s, got)
		}
		if Clean(got) != got {
			t.Errorf("%q is not stable", got)
		}
		text := strings.NewReplacer("\n", "", "\t", "").Replace(CleanText(s))
		if !utf8.ValidString(text) || strings.ContainsFunc(text, hostile) {
			t.Errorf("%q -> %q", s, text)
		}
	})
}

func FuzzJSONEscapingKeepsTheMeaning(f *testing.F) {
	f.Add("\u009b2J\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := marshal(s, "")
		if err != nil {
			t.Fatal(err)
		}
		var back string
		want := strings.ToValidUTF8(s, "\ufffd")
		if err := json.Unmarshal(b, &back); err != nil || back != want && utf8.ValidString(s) {
			t.Errorf("%q -> %s -> %q, %v", s, b, back, err)
		}
		if strings.ContainsFunc(string(b[:len(b)-1]), hostile) {
			t.Errorf("raw: %q", b)
		}
	})
}

func FuzzRedactNeverShowsARegisteredSecret(f *testing.F) {
	f.Add("before opensesame after", "opensesame")
	f.Fuzz(func(t *testing.T, text, secret string) {
		if len(secret) < minSecret || strings.Contains(redacted, secret) || strings.Contains("[private key redacted]", secret) {
			return
		}
		r := NewRedactor()
		r.Add(secret)
		if got := r.Redact(secret); strings.Contains(got, secret) {
			t.Errorf("%q shows %q", got, secret)
		}
		r.Redact(text) // must not panic
	})
}
