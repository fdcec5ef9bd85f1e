package filestore_test

import (
	"strings"
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store/filestore"
)

func TestParseReadsAbsoluteFileURLs(t *testing.T) {
	for url, want := range map[string]string{
		"file:///mnt/usb":              "/mnt/usb",
		"FILE:///mnt/usb/":             "/mnt/usb",
		"file:///mnt//usb/./x":         "/mnt/usb/x",
		"file:///mnt/with%20space":     "/mnt/with space",
		"file:///mnt/with space":       "/mnt/with space",
		"file:///mnt/a%23b%3Fc%25d":    "/mnt/a#b?c%d",
		"file:///mnt/%2520":            "/mnt/%20", // decoded once
		"file:///mnt/%C3%BCn%C3%AF":    "/mnt/ünï",
		"file:///mnt/ünï":              "/mnt/ünï",
		"file:///mnt/a+b":              "/mnt/a+b",
		"file:///mnt/..hidden/trail..": "/mnt/..hidden/trail..",
	} {
		if got, err := filestore.Parse(url); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", url, got, err, want)
		}
	}
}

func TestParseRefusesEverythingElse(t *testing.T) {
	for _, url := range []string{
		"", "file:", "file:/mnt", "file://", "file:///", "file:////", "file:///.", "file://host/mnt", "file://localhost/mnt", "file://./mnt", "/mnt/usb", "mnt",
		"http:///mnt", "files:///mnt", "file:///mnt/../etc", "file:///mnt/%2e%2e/etc", "file:///mnt/%2E./etc", "file:///mnt/..", "file:///mnt%2fusb", "file:///mnt%2Fusb",
		"file:///mnt/%00", "file:///mnt/\x00", "file:///mnt/%0a", "file:///mnt/%1b[2J", "file:///mnt/%ff", "file:///mnt/%", "file:///mnt/%zz", "file:///mnt/%4",
		"file:///mnt?x", "file:///mnt#x", "file:///mnt?", "file:///mnt#", " file:///mnt",
	} {
		if got, err := filestore.Parse(url); err == nil {
			t.Errorf("%q was taken for %q", url, got)
		} else if strings.ContainsAny(err.Error(), "\x00\n\x1b") {
			t.Errorf("%q: control characters in the error text", url)
		}
	}
}

func TestNewRefusesWhatIsNoPlaceForAStore(t *testing.T) {
	for _, dir := range []string{"", ".", "x", "x/y", "/", "//", "/.", "/mnt/../x", "/mnt/\n", "/mnt/\xff"} {
		if s, err := filestore.New(dir, filestore.Options{}); err == nil {
			t.Errorf("%q was taken: %v", dir, s)
		}
	}
}

// FuzzParse: what is accepted is one unambiguous absolute path.
func FuzzParse(f *testing.F) {
	for _, url := range []string{"file:///mnt/usb", "file:///mnt/%2e%2e/x", "file:///a%20b", "file:///%25", "file://h/x", "file:///a#b"} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		path, err := filestore.Parse(url)
		if err != nil {
			return
		}
		if !strings.HasPrefix(path, "/") || len(path) < 2 || strings.Contains(path+"/", "/../") || strings.ContainsAny(path, "\x00\n") {
			t.Errorf("%q gives %q", url, path)
		}
		if again, err := filestore.Parse(filestore.URL(path)); err != nil || again != path {
			t.Errorf("%q gives %q, which as a URL gives %q, %v", url, path, again, err)
		}
	})
}
