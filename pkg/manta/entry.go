package manta

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// entry is one line of a listing.
type entry struct{ Info }

// readPage reads the lines of one page: newline-terminated JSON objects, the last
// of which may lack its newline.
func readPage(r io.Reader, dir string, limit int) ([]entry, error) {
	counted := &countedReader{r: r}
	br := bufio.NewReaderSize(counted, 64<<10)
	entries := make([]entry, 0, 64)
	for {
		line, err := readLine(br)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if len(line) > 0 {
			e, perr := parseEntry(line, dir)
			if perr != nil {
				return nil, perr
			}
			if len(entries) == limit {
				return nil, fmt.Errorf("more than the %d entries asked for", limit)
			}
			entries = append(entries, e)
		}
		if err == io.EOF {
			return entries, nil
		}
		if counted.n > maxPage {
			return nil, fmt.Errorf("a page of more than %d bytes", maxPage)
		}
	}
}

// countedReader counts what was read and marks read errors as the connection's.
type countedReader struct {
	r io.Reader
	n int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		err = &brokenPage{err}
	}
	return n, err
}

// readLine returns a line without its end; io.EOF comes with the last one.
func readLine(br *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		part, err := br.ReadSlice('\n')
		if len(long)+len(part) > maxLine {
			return nil, fmt.Errorf("a line of more than %d bytes", maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, part...)
			continue
		}
		if len(long) > 0 {
			part = append(long, part...)
		}
		if n := len(part); n > 0 && part[n-1] == '\n' {
			part = part[:n-1]
		}
		return part, err
	}
}

// parseEntry reads one line. Fields it does not know are left alone; the name must
// be one component of a path.
func parseEntry(line []byte, dir string) (entry, error) {
	var v struct {
		Name        *string `json:"name"`
		Type        string  `json:"type"`
		ETag        string  `json:"etag"`
		Size        *int64  `json:"size"`
		ContentType string  `json:"contentType"`
		ContentMD5  string  `json:"contentMD5"`
		MTime       string  `json:"mtime"`
		Durability  int     `json:"durability"`
	}
	// encoding/json would replace bad bytes in a name and so name another object.
	if !utf8.Valid(line) {
		return entry{}, fmt.Errorf("line %q: not UTF-8", printable(string(line), 80))
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return entry{}, fmt.Errorf("line %q: %w", printable(string(line), 80), err)
	}
	if v.Name == nil {
		return entry{}, fmt.Errorf("line %q: no name", printable(string(line), 80))
	}
	if strings.ContainsRune(*v.Name, utf8.RuneError) { // a lone surrogate, or a name we could not send back
		return entry{}, fmt.Errorf("name %q: not proper Unicode: %w", *v.Name, ErrBadPath)
	}
	if err := checkName(*v.Name); err != nil {
		return entry{}, err
	}
	e := entry{Info{Path: dir + "/" + *v.Name, Name: *v.Name, Type: v.Type, ETag: v.ETag, ContentType: v.ContentType,
		MD5: parseMD5(v.ContentMD5), Durability: v.Durability, ResultSetSize: -1}}
	switch v.Type {
	case TypeDirectory:
		e.ETag, e.MD5 = "", nil
	case TypeObject:
		if v.Size == nil || *v.Size < 0 {
			return entry{}, fmt.Errorf("object %q: no size", printable(*v.Name, 80))
		}
		e.Size = *v.Size
	default:
		return entry{}, fmt.Errorf("%q: of unknown type %q", printable(*v.Name, 80), printable(v.Type, 40))
	}
	if v.MTime != "" {
		t, err := time.Parse(time.RFC3339, v.MTime)
		if err != nil {
			return entry{}, fmt.Errorf("%q: time %q is not RFC 3339", printable(*v.Name, 80), printable(v.MTime, 40))
		}
		e.MTime = t.UTC()
	}
	return e, nil
}
