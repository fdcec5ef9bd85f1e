package mantad

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// presigned says whether the request carries its credentials in the query.
func (c *call) presigned() bool {
	q := c.query
	return q.Get("expires") != "" || q.Get("signature") != "" || q.Get("keyId") != "" || q.Get("algorithm") != ""
}

// authenticatePresigned checks a signed URL: method, host, path and the sorted
// query without the signature, one a line.
func (s *Server) authenticatePresigned(c *call) (caller, error) {
	refuse := func(format string, args ...any) (caller, error) {
		return caller{}, fault(http.StatusForbidden, "InvalidQueryStringAuthentication", format, args...)
	}
	q := c.query
	methods := []string{c.r.Method}
	if v := q.Get("method"); v != "" {
		methods = strings.Split(v, ",")
		for i := range methods {
			methods[i] = strings.TrimSpace(methods[i])
		}
	}
	slices.Sort(methods)
	if !slices.Contains(methods, c.r.Method) {
		return refuse("%s was not a signed method", c.r.Method)
	}
	var missing []string
	for _, k := range []string{"algorithm", "expires", "keyId", "signature"} {
		if q.Get(k) == "" {
			missing = append(missing, k)
		}
	}
	if len(missing) > 0 {
		return refuse(`parameters "%s" are required`, strings.Join(missing, ", "))
	}
	expires, err := strconv.ParseInt(q.Get("expires"), 10, 64)
	if err != nil {
		return refuse("expires is invalid")
	}
	if s.cfg.Clock().Unix() > expires {
		return refuse("request expired")
	}
	alg := q.Get("algorithm")
	if _, _, ok := splitAlgorithm(alg); !ok {
		return refuse("%s is not a supported signing algorithm", strings.ToUpper(alg))
	}
	var pairs []string
	for k := range q {
		if strings.ToLower(k) != "signature" {
			pairs = append(pairs, escape3986(k)+"="+escape3986(q.Get(k)))
		}
	}
	slices.SortFunc(pairs, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	path, _, _ := strings.Cut(c.r.RequestURI, "?")
	text := strings.Join(methods, ",") + "\n" + c.r.Host + "\n" + path + "\n" + strings.Join(pairs, "&")
	return s.verify(c, alg, q.Get("keyId"), q.Get("signature"), text)
}

func escape3986(s string) string {
	var b strings.Builder
	for i := range len(s) {
		ch := s[i]
		switch {
		case ch >= 'a' && ch <= 'z', ch >= 'A' && ch <= 'Z', ch >= '0' && ch <= '9', strings.IndexByte("-_.~", ch) >= 0:
			b.WriteByte(ch)
		default:
			b.WriteByte('%')
			b.WriteByte("0123456789ABCDEF"[ch>>4])
			b.WriteByte("0123456789ABCDEF"[ch&15])
		}
	}
	return b.String()
}
