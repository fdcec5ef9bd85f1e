package imgapi

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/rest"
)

var content = bytes.Repeat([]byte("0123456789"), 30_000)

// fileServer sends body, announcing length and an MD5.
func fileServer(t *testing.T, length int, sum []byte, body []byte, then func(*http.Request)) string {
	return strict(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/images/"+uuid1+"/file" || r.Header.Get("Range") != "" {
			t.Errorf("asked %s %q", r.URL, r.Header.Get("Range"))
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(length))
		w.Header().Set("Etag", "c240a456")
		if sum != nil {
			w.Header().Set("Content-MD5", base64.StdEncoding.EncodeToString(sum))
		}
		w.Write(body)
		if then != nil {
			w.(http.Flusher).Flush()
			then(r)
		}
	})
}

func read(t *testing.T, url string) ([]byte, error) {
	t.Helper()
	f, err := newClient(t, url, nil).GetImageFile(t.Context(), uuid1, "")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func TestAFileIsWholeOnlyWhenLengthAndMD5Held(t *testing.T) {
	good := md5.Sum(content)
	wrong := bytes.Clone(content)
	wrong[150_000] ^= 1
	wait := func(r *http.Request) { <-r.Context().Done() }
	for name, c := range map[string]struct {
		length int
		sum    []byte
		body   []byte
		then   func(*http.Request)
		is     error
	}{
		"right":        {len(content), good[:], content, nil, nil},
		"no md5":       {len(content), nil, content, nil, nil},
		"wrong bytes":  {len(content), good[:], wrong, nil, ErrChecksum},
		"cut":          {len(content), good[:], content[:1000], nil, io.ErrUnexpectedEOF},
		"short, hangs": {len(content), good[:], content[:1000], wait, rest.ErrStalled},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(t, fileServer(t, c.length, c.sum, c.body, c.then))
			if !errors.Is(err, c.is) {
				t.Errorf("%v, want %v", err, c.is)
			}
			if c.is == nil && !bytes.Equal(got, content) {
				t.Errorf("%d bytes", len(got))
			}
		})
	}
}

func TestAFailedReadStaysFailed(t *testing.T) {
	sum := md5.Sum(nil)
	f, err := newClient(t, fileServer(t, len(content), sum[:], content, nil), nil).GetImageFile(t.Context(), uuid1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		if _, err := io.Copy(io.Discard, f); !errors.Is(err, ErrChecksum) {
			t.Error(err)
		}
	}
}

func TestAMissingFileIsNamedAndDoesNotHang(t *testing.T) {
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", "300068")
		w.WriteHeader(500)
		w.(http.Flusher).Flush()
		<-r.Context().Done() // the server closes after 5 s
	})
	begin := time.Now()
	_, err := read(t, url)
	if !errors.Is(err, ErrFileGone) || time.Since(begin) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestFilesWithoutALengthOrWithAnMD5ThatIsNoneAreRefused(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"no length": func(w http.ResponseWriter, r *http.Request) {
			w.Write(content[:10])
			w.(http.Flusher).Flush()
		},
		"no MD5": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-MD5", "never")
			w.Write(content[:10])
		},
	} {
		if _, err := read(t, strict(t, h)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnUnknownImageHasNoFile(t *testing.T) {
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		reply(w, 404, `{"code":"ResourceNotFound","message":"image not found"}`)
	})
	if _, err := read(t, url); !errors.Is(err, rest.ErrNotFound) {
		t.Error(err)
	}
}
