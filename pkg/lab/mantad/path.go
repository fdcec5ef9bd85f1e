package mantad

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// areas are the directories every account has. They cannot be removed.
func areas() []string { return []string{"public", "reports", "stor"} }

var (
	areaRE = regexp.MustCompile(`^/([a-zA-Z][a-zA-Z0-9_\-.@%]+)/(public|reports|stor)(/.*)?$`)
	rootRE = regexp.MustCompile(`^/[a-zA-Z0-9_\-.@%~]+$`)
)

// route is what a path leads to.
type route int

const (
	routeNone    route = iota
	routeAccount       // /:login
	routeArea          // /:login/stor and below
	routeTokens        // /:login/tokens
)

// strip drops repeated slashes, and one before the query, as the service does
// before it looks at a URL.
func strip(target string) string {
	var b strings.Builder
	for i := range len(target) {
		if target[i] == '/' && i+1 < len(target) && (target[i+1] == '/' || target[i+1] == '?' && i > 0) {
			continue
		}
		b.WriteByte(target[i])
	}
	return b.String()
}

// requestTarget is the URL as the service sees it.
func requestTarget(r *http.Request) string {
	t := r.RequestURI
	if !strings.HasPrefix(t, "/") {
		t = r.URL.RequestURI()
	}
	return strip(t)
}

func routeOf(path string) route {
	switch {
	case areaRE.MatchString(path):
		return routeArea
	case rootRE.MatchString(path):
		return routeAccount
	case strings.HasSuffix(path, "/tokens") && strings.Count(path, "/") == 2:
		return routeTokens
	}
	return routeNone
}

// isRoot says whether a raw path is an account or one of its areas.
func isRoot(path string) bool {
	parts := strings.Split(strings.TrimRight(path, "/"), "/")
	return len(parts) == 2 || len(parts) == 3 && slices.Contains(areas(), parts[2])
}

// maxKey is what the index of the service's database takes.
const maxKey = 2700

// decodeKey turns a raw path into the key of an entry: split first, then decoded,
// so that an escaped slash parts names as a plain one does.
func decodeKey(path string) (string, error) {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		d, err := url.PathUnescape(p)
		if err != nil || !utf8.ValidString(d) {
			return "", errInvalidPath(path)
		}
		parts[i] = d
	}
	key := strings.Join(parts, "/")
	switch {
	case strings.HasSuffix(key, "/") || !strings.HasPrefix(key, "/"):
		return "", errInvalidPath(path)
	case len(key) > maxKey || strings.Contains(key, "\x00"):
		return "", errInternal()
	}
	return key, nil
}
