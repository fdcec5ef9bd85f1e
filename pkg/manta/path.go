package manta

import (
	"errors"
	"fmt"
	"strings"
)

// ErrBadPath is returned for a path that cannot name an object or directory,
// before anything is sent.
var ErrBadPath = errors.New("not a usable path")

// absolute checks a path and returns it with "~~" replaced by the account and
// without a trailing slash.
func (c *Client) absolute(path string) (string, error) {
	if path == "~~" || strings.HasPrefix(path, "~~/") {
		path = "/" + c.cfg.Account + path[2:]
	}
	path = strings.TrimSuffix(path, "/")
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "", fmt.Errorf("%q: it must begin with a slash: %w", path, ErrBadPath)
	}
	for part := range strings.SplitSeq(rest, "/") {
		if err := checkName(part); err != nil {
			return "", fmt.Errorf("%q: %w", path, err)
		}
	}
	return path, nil
}

// checkName refuses what is not one component of a path.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("component %q: %w", name, ErrBadPath)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("component %q has a slash or NUL: %w", name, ErrBadPath)
	}
	return nil
}

const upperHex = "0123456789ABCDEF"

// escape percent-encodes every byte outside A-Z a-z 0-9 - _ . ~ and, for a path,
// the slash: what the npm clients send.
func escape(s string, slash bool) string {
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := range len(s) {
		c := s[i]
		if plain(c) || slash && c == '/' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == '~'
}

// parent returns the directory of a path, "/" for one component.
func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}
	return "/"
}

// base returns the last component.
func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
