package instance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// MaxConfig is the largest configuration read, in bytes.
const MaxConfig = 1 << 20

// The modes of an image server.
const (
	ModePublic  = "public"
	ModePrivate = "private"
	ModeDC      = "dc"
)

// Config is the merged and computed configuration of the stock server.
type Config struct {
	Port           int
	Address        string
	ServerName     string // "" where the server uses its own name and version
	LogLevel       string
	MaxSockets     int
	Mode           string // ModePublic, ModePrivate or ModeDC
	DatacenterName string
	AuthType       string // "none" or "signature"
	DatabaseType   string // "local" or "moray"
	StorageTypes   []string
	Channels       []Channel           // nil where the server has no channels
	AuthKeys       map[string][]string // user name to public keys, from the config only
	Manta          *Manta              // nil where Manta is not configured

	// Raw is the whole merged configuration with the computed values, numbers as
	// json.Number, as "config" prints it after Redact.
	Raw map[string]any
}

// Channel is one channel definition.
type Channel struct {
	Name        string
	Description string
	Default     bool
}

// Manta says where and as whom the instance stores in Manta.
type Manta struct {
	URL      string
	User     string
	Key      string // path of the private key as configured; see Instance.KeyPath
	KeyID    string
	BaseDir  string // below /<user>/stor
	RootDir  string // computed: /<user>/stor/<baseDir>[/<datacenterName>]
	Insecure bool   // do not verify the server's certificate
}

// FieldError says what is wrong with one field of a configuration or manifest.
type FieldError struct {
	Field string // dotted name
	Msg   string // "must be a string, is a number"
}

// Error returns "field: message".
func (e *FieldError) Error() string { return e.Field + ": " + e.Msg }

// FieldErrors is one or more wrong fields.
type FieldErrors []*FieldError

// Error joins the texts with "; ".
func (e FieldErrors) Error() string {
	s := make([]string, len(e))
	for i, f := range e {
		s[i] = f.Error()
	}
	return strings.Join(s, "; ")
}

// defaults are the server's etc/defaults.json.
func defaults() map[string]any {
	return map[string]any{
		"port":         json.Number("8080"),
		"address":      "127.0.0.1",
		"maxSockets":   json.Number("100"),
		"logLevel":     "debug",
		"mode":         ModePublic,
		"authType":     "signature",
		"databaseType": "local",
		"storageTypes": []any{"local"},

		"placeholderImageLifespanDays": json.Number("7"),
		"allowLocalCreateImageFromVm":  false,
		"minImageCreationPlatform":     []any{"7.0", "20130917T001310Z"},
	}
}

// ParseConfig merges a configuration file over the server's defaults, key by key
// at the top level only, computes manta.baseDir and manta.rootDir, and validates
// it as the server does. All wrong fields are reported at once ([FieldErrors]). A
// config of mode "dc" parses; Load refuses it.
func ParseConfig(b []byte) (*Config, error) {
	if len(b) > MaxConfig {
		return nil, fmt.Errorf("over %d bytes, which no configuration is", MaxConfig)
	}
	own, err := decodeObject(b)
	if err != nil {
		return nil, err
	}
	raw := defaults()
	for k, v := range own {
		raw[k] = v
	}
	r := &configReader{raw: raw}
	c := r.config()
	if len(r.errs) > 0 {
		return nil, r.errs
	}
	return c, nil
}

// decodeObject decodes exactly one JSON object, numbers kept as written.
func decodeObject(b []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	if err == nil {
		if _, err = dec.Token(); err == io.EOF {
			err = nil
		} else if err == nil {
			err = errors.New("more than one JSON value")
		}
	}
	if err != nil {
		return nil, jsonError(b, err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("must be a JSON object, is %s", kindOf(v))
	}
	return m, nil
}

// jsonError says where in the text a syntax error is.
func jsonError(b []byte, err error) error {
	var syn *json.SyntaxError
	switch {
	case len(bytes.TrimSpace(b)) == 0:
		return errors.New("not JSON: empty")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("not JSON: ends in the middle")
	case errors.As(err, &syn):
		before := b[:min(max(syn.Offset-1, 0), int64(len(b)))]
		line := bytes.Count(before, []byte{'\n'}) + 1
		col := len(before) - bytes.LastIndexByte(before, '\n')
		return fmt.Errorf("not JSON: line %d column %d: %w", line, col, err)
	}
	return fmt.Errorf("not JSON: %w", err)
}

// configReader picks typed values out of the merged map and gathers what is
// wrong.
type configReader struct {
	raw  map[string]any
	errs FieldErrors
}

// config reads and validates in the order of the server's own validation.
func (r *configReader) config() *Config {
	c := &Config{Raw: r.raw}
	c.Port = r.integer("port", 0, 65535)
	c.Address = r.str(r.raw, "", "address")
	c.MaxSockets = r.integer("maxSockets", 0, 1<<31-1)
	c.ServerName = r.optStr("serverName")
	if v := r.raw["logLevel"]; v != nil {
		c.LogLevel = fmt.Sprint(v) // a bunyan name or number
	}
	c.Mode = r.oneOf("mode", ModePublic, ModePrivate, ModeDC)
	if c.Mode == ModeDC {
		c.DatacenterName = r.str(r.raw, "", "datacenterName")
	} else {
		c.DatacenterName = r.optStr("datacenterName")
	}
	c.AuthType = r.oneOf("authType", "none", "signature")
	c.StorageTypes = r.storageTypes()
	c.Manta = r.manta(c)
	c.DatabaseType = r.oneOf("databaseType", "local", "moray")
	r.optNumber("placeholderImageLifespanDays")
	r.optBool("allowLocalCreateImageFromVm")
	r.stringMap("imgapiUrlFromDatacenter")
	c.Channels = r.channels()
	c.AuthKeys = r.authKeys()
	return c
}

func (r *configReader) fail(field, format string, args ...any) {
	r.errs = append(r.errs, &FieldError{Field: field, Msg: fmt.Sprintf(format, args...)})
}

// str reads a required string of obj; in is the name of obj for the error text.
func (r *configReader) str(obj map[string]any, in, key string) string {
	s, ok := obj[key].(string)
	if !ok {
		r.fail(dotted(in, key), "must be a string, is %s", kindOf(obj[key]))
	}
	return s
}

func (r *configReader) optStr(key string) string {
	if r.raw[key] == nil {
		return ""
	}
	return r.str(r.raw, "", key)
}

func (r *configReader) integer(key string, lo, hi int) int {
	n, err := toInt(r.raw[key])
	if err != nil || n < int64(lo) || n > int64(hi) {
		r.fail(key, "must be an integer from %d to %d, is %s", lo, hi, show(r.raw[key]))
		return 0
	}
	return int(n)
}

func (r *configReader) optNumber(key string) {
	if _, ok := r.raw[key].(json.Number); !ok && r.raw[key] != nil {
		r.fail(key, "must be a number, is %s", kindOf(r.raw[key]))
	}
}

func (r *configReader) optBool(key string) {
	if _, ok := r.raw[key].(bool); !ok && r.raw[key] != nil {
		r.fail(key, "must be true or false, is %s", kindOf(r.raw[key]))
	}
}

func (r *configReader) oneOf(key string, valid ...string) string {
	n := len(r.errs)
	s := r.str(r.raw, "", key)
	for _, v := range valid {
		if s == v {
			return s
		}
	}
	if len(r.errs) == n {
		r.fail(key, "must be one of %s, is %q", strings.Join(valid, ", "), s)
	}
	return s
}

func (r *configReader) stringMap(key string) {
	if falsy(r.raw[key]) {
		return
	}
	m, ok := r.raw[key].(map[string]any)
	if !ok {
		r.fail(key, "must be an object, is %s", kindOf(r.raw[key]))
		return
	}
	for name := range m {
		r.str(m, key, name)
	}
}

func (r *configReader) storageTypes() []string {
	list := r.strings("storageTypes", r.raw["storageTypes"])
	for _, s := range list {
		if s != "local" && s != "manta" {
			r.fail("storageTypes", "must hold local or manta, holds %q", s)
		}
		if s == "manta" && falsy(r.raw["manta"]) {
			r.fail("manta", "must be an object when storageTypes holds manta")
		}
	}
	return list
}

func (r *configReader) strings(field string, v any) []string {
	list, ok := v.([]any)
	if !ok {
		r.fail(field, "must be an array of strings, is %s", kindOf(v))
		return nil
	}
	out := make([]string, 0, len(list))
	for i, e := range list {
		s, ok := e.(string)
		if !ok {
			r.fail(fmt.Sprintf("%s[%d]", field, i), "must be a string, is %s", kindOf(e))
			continue
		}
		out = append(out, s)
	}
	return out
}

// manta computes baseDir and rootDir into the raw map too, as the server does.
func (r *configReader) manta(c *Config) *Manta {
	if falsy(r.raw["manta"]) {
		return nil
	}
	m, ok := r.raw["manta"].(map[string]any)
	if !ok {
		r.fail("manta", "must be an object, is %s", kindOf(r.raw["manta"]))
		return nil
	}
	if falsy(m["baseDir"]) {
		m["baseDir"] = "imgapi"
	}
	out := &Manta{
		URL:     r.str(m, "manta", "url"),
		User:    r.str(m, "manta", "user"),
		Key:     r.str(m, "manta", "key"),
		KeyID:   r.str(m, "manta", "keyId"),
		BaseDir: r.str(m, "manta", "baseDir"),
	}
	switch v := m["insecure"].(type) {
	case nil:
	case bool:
		out.Insecure = v
	case string: // the stock scripts compare the printed value with "true"
		out.Insecure = v == "true"
	default:
		r.fail("manta.insecure", "must be true or false, is %s", kindOf(v))
	}
	out.RootDir = "/" + out.User + "/stor/" + out.BaseDir
	if c.Mode == ModeDC {
		out.RootDir += "/" + c.DatacenterName
	}
	m["rootDir"] = out.RootDir
	return out
}

var channelName = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// channels validates as the server does when it starts.
func (r *configReader) channels() []Channel {
	if falsy(r.raw["channels"]) {
		return nil
	}
	list, ok := r.raw["channels"].([]any)
	if !ok || len(list) == 0 {
		r.fail("channels", "must be an array of at least one channel, is %s", show(r.raw["channels"]))
		return nil
	}
	var out []Channel
	defaults := 0
	for i, e := range list {
		field := fmt.Sprintf("channels[%d]", i)
		m, ok := e.(map[string]any)
		if !ok {
			r.fail(field, "must be an object, is %s", kindOf(e))
			continue
		}
		ch := Channel{Name: r.str(m, field, "name"), Description: r.str(m, field, "description")}
		if ch.Name != "" && !channelName.MatchString(ch.Name) {
			r.fail(field+".name", "must match %s, is %q", channelName, ch.Name)
		}
		if d, has := m["default"]; has {
			if ch.Default, ok = d.(bool); !ok {
				r.fail(field+".default", "must be true or false, is %s", kindOf(d))
			}
			// The server counts the key, not its value.
			if defaults++; defaults > 1 {
				r.fail("channels", "only one may be the default")
			}
		}
		out = append(out, ch)
	}
	return out
}

func (r *configReader) authKeys() map[string][]string {
	if falsy(r.raw["authKeys"]) {
		return nil
	}
	m, ok := r.raw["authKeys"].(map[string]any)
	if !ok {
		r.fail("authKeys", "must be an object, is %s", kindOf(r.raw["authKeys"]))
		return nil
	}
	out := make(map[string][]string, len(m))
	for user, keys := range m {
		out[user] = r.strings("authKeys."+user, keys)
	}
	return out
}
