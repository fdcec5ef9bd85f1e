package filestore

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// Parse returns the path of a URL of the form file:///path. The path must be
// absolute, is percent-decoded once and may hold no "..", no encoded slash and
// nothing but printable characters. A host, a query or a fragment is refused: a
// directory with '?', '#' or '%' in its name is written with %3F, %23, %25.
func Parse(raw string) (string, error) {
	path, err := parse(raw)
	if err != nil {
		return "", fmt.Errorf("%q: not a usable file URL: %w", raw, err)
	}
	return path, nil
}

func parse(raw string) (string, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || !strings.EqualFold(scheme, "file") {
		return "", errors.New("must begin with file:///")
	}
	if !strings.HasPrefix(rest, "/") {
		return "", errors.New("names a host or a relative path: three slashes and an absolute path are needed")
	}
	if strings.ContainsAny(rest, "?#") {
		return "", errors.New("has a query or a fragment: write ? as %3F and # as %23")
	}
	if strings.Contains(strings.ToLower(rest), "%2f") {
		return "", errors.New("has an encoded slash")
	}
	path, err := url.PathUnescape(rest)
	if err != nil {
		return "", err
	}
	if err := checkPath(path); err != nil {
		return "", err
	}
	return filepath.Clean(path), nil
}

// URL is the inverse of [Parse].
func URL(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

// checkPath says whether path can be the top of a store.
func checkPath(path string) error {
	switch {
	case !filepath.IsAbs(path):
		return fmt.Errorf("%q: not an absolute path", path)
	case filepath.Clean(path) == "/":
		return errors.New("the root directory cannot be a store")
	case strings.ContainsFunc(path, unprintable):
		return fmt.Errorf("%q: has a character that cannot be printed", path)
	}
	for c := range strings.SplitSeq(path, "/") {
		if c == ".." {
			return fmt.Errorf("%q: has a .. component", path)
		}
	}
	return nil
}
