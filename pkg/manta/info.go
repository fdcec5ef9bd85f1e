package manta

import (
	"crypto/md5"
	"encoding/base64"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The values of Info.Type.
const (
	TypeObject    = "object"
	TypeDirectory = "directory"
)

// Info describes an object or a directory.
type Info struct {
	Path        string // absolute, not escaped
	Name        string // its last component
	Type        string // TypeObject or TypeDirectory
	ETag        string // changes with every write, same bytes or not; empty for directories
	ContentType string
	Size        int64     // bytes; -1 if an answer did not say
	MD5         []byte    // of the content, 16 bytes; nil if not told
	MTime       time.Time // UTC, by the service's clock; zero if not told
	Durability  int       // number of copies; 0 if not told
	// ResultSetSize is the number of entries of a directory; -1 if not told. Only
	// Head and List give it.
	ResultSetSize int
	Metadata      map[string]string // the m-* headers, keys in lower case with their "m-"
}

// IsDir says whether it is a directory.
func (i Info) IsDir() bool { return i.Type == TypeDirectory }

// headerInfo reads the description of path from an answer's headers.
func headerInfo(path string, resp *http.Response) Info {
	h := resp.Header
	info := Info{Path: path, Name: base(path), Type: TypeObject, Size: -1, ResultSetSize: -1,
		ETag: h.Get("Etag"), ContentType: h.Get("Content-Type"), MD5: parseMD5(h.Get("Content-Md5"))}
	if isDirectory(info.ContentType) {
		info.Type, info.Size = TypeDirectory, 0
	} else if resp.ContentLength >= 0 {
		info.Size = resp.ContentLength
	}
	if t, err := parseDate(h.Get("Last-Modified")); err == nil {
		info.MTime = t
	}
	info.Durability, _ = strconv.Atoi(h.Get("Durability-Level"))
	if n, err := strconv.Atoi(h.Get("Result-Set-Size")); err == nil && n >= 0 {
		info.ResultSetSize = n
	}
	for k, v := range h {
		if k := strings.ToLower(k); strings.HasPrefix(k, "m-") {
			if info.Metadata == nil {
				info.Metadata = make(map[string]string)
			}
			info.Metadata[k] = strings.Join(v, ", ")
		}
	}
	return info
}

// isDirectory recognises the content type of directories. It is a parameter, not
// the type: a stored object may be a JSON stream too.
func isDirectory(contentType string) bool {
	t, params, err := mime.ParseMediaType(contentType)
	return err == nil && t == "application/x-json-stream" && params["type"] == TypeDirectory
}

// parseMD5 decodes the base64 of a Content-MD5; nil if it is not one.
func parseMD5(s string) []byte {
	sum, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(sum) != md5.Size {
		return nil
	}
	return sum
}

func formatMD5(sum []byte) string { return base64.StdEncoding.EncodeToString(sum) }
