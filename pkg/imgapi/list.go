package imgapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strconv"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/rest"
)

// Image is an image as the API shows it. Raw has every field, these have the
// usual ones.
type Image struct {
	UUID        string    `json:"uuid"`
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	State       string    `json:"state"`
	OS          string    `json:"os"`
	Type        string    `json:"type"`
	Owner       string    `json:"owner"`
	Origin      string    `json:"origin"`
	Public      bool      `json:"public"`
	Disabled    bool      `json:"disabled"`
	PublishedAt time.Time `json:"published_at"` // zero until activated
	Channels    []string  `json:"channels"`
	Files       []File    `json:"files"`

	Raw json.RawMessage `json:"-"`
}

// File is one entry of an image's files.
type File struct {
	SHA1        string `json:"sha1"` // hex
	Size        int64  `json:"size"` // bytes
	Compression string `json:"compression"`
	DatasetGUID string `json:"dataset_guid"`
	Stor        string `json:"stor"` // only with InclAdminFields
}

// Filter narrows a list. The zero value lists the active images of the default
// channel. Sorting is left out on purpose: the server sorts a limited list
// after choosing which images are in it.
type Filter struct {
	State           string // active, disabled, unactivated, all, creating, failed; other than active needs a signature to show
	Name            string // exact, or "~part"
	Version         string // exact, or "~part"
	Owner           string
	OS              string
	Type            string // exact, or "!not"
	Account         string
	Channel         string // "*" for all
	Marker          string // uuid or date, inclusive
	Public          *bool
	Tags            map[string]string
	Limit           int  // 0 lists all
	InclAdminFields bool // needs a signature
}

func (f Filter) query() (url.Values, error) {
	q := url.Values{}
	for name, v := range map[string]string{
		"state": f.State, "name": f.Name, "version": f.Version, "owner": f.Owner, "os": f.OS, "type": f.Type,
		"account": f.Account, "channel": f.Channel, "marker": f.Marker,
	} {
		if v != "" { // name= matches nothing
			q.Set(name, v)
		}
	}
	for k, v := range f.Tags {
		q.Set("tag."+k, v)
	}
	if f.Public != nil {
		q.Set("public", strconv.FormatBool(*f.Public))
	}
	if f.Limit < 0 {
		return nil, fail.New(fail.Usage, "list of images: limit %d is negative", f.Limit)
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.InclAdminFields {
		q.Set("inclAdminFields", "true")
	}
	return q, nil
}

// ErrElement is an element of a list that is not an image.
var ErrElement = errors.New("not an image")

// ListImages yields the images of the server in its order, as they arrive: one
// is in memory at a time, so 100,000 of them cost no more than one. It ends
// with the first error; an answer cut short, an element too large or one that
// is no image is an error, never a short list.
func (c *Client) ListImages(ctx context.Context, f Filter) iter.Seq2[*Image, error] {
	return func(yield func(*Image, error) bool) {
		q, err := f.query()
		if err != nil {
			yield(nil, err)
			return
		}
		s, err := c.rest.Stream(ctx, rest.Request{Path: "/images", Query: q, WantJSON: true})
		if err != nil {
			yield(nil, classify(err))
			return
		}
		defer s.Body.Close()
		for img, err := range decodeList(s.Body, c.maxImage) {
			if err != nil {
				err = fmt.Errorf("GET %s/images: %w", c.URL(), err)
			}
			if !yield(img, err) {
				return
			}
		}
	}
}

// decodeList decodes an array of images of at most limit bytes each.
func decodeList(r io.Reader, limit int64) iter.Seq2[*Image, error] {
	return func(yield func(*Image, error) bool) {
		budget := &budget{r: r, limit: limit, left: limit}
		dec := json.NewDecoder(budget)
		if t, err := dec.Token(); err != nil || t != json.Delim('[') {
			yield(nil, listError(0, err, "answer is not an array"))
			return
		}
		n := 0
		for ; ; n++ {
			budget.refill(dec.InputOffset())
			if !dec.More() {
				break
			}
			img := new(Image)
			if err := dec.Decode(&img.Raw); err != nil {
				yield(nil, listError(n, err, ""))
				return
			}
			if err := img.fill(); err != nil {
				yield(nil, listError(n, err, ""))
				return
			}
			if !yield(img, nil) {
				return
			}
		}
		if t, err := dec.Token(); err != nil || t != json.Delim(']') {
			yield(nil, listError(n, err, "array does not end"))
			return
		}
		if _, err := dec.Token(); err != io.EOF {
			yield(nil, listError(n, err, "something follows the array"))
		}
	}
}

// listError says where in the list it went wrong.
func listError(n int, err error, otherwise string) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("answer was cut short after %d images: %w", n, io.ErrUnexpectedEOF)
	case err == nil || otherwise != "" && !errors.Is(err, rest.ErrStalled) && !errors.Is(err, rest.ErrTooLarge):
		return fmt.Errorf("%w: %s", rest.ErrNotJSON, otherwise)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		err = fmt.Errorf("%w: %s", rest.ErrNotJSON, rest.Clean(err.Error()))
	}
	return fmt.Errorf("element %d: %w", n, err)
}

// fill decodes Raw into the typed fields and checks that it is an image at all.
func (img *Image) fill() error {
	raw := img.Raw
	if len(raw) == 0 || raw[0] != '{' {
		return fmt.Errorf("%w: it is no object", ErrElement)
	}
	if err := json.Unmarshal(raw, img); err != nil {
		return fmt.Errorf("%w: %s", ErrElement, rest.Clean(err.Error()))
	}
	img.Raw = raw
	if !ValidUUID(img.UUID) {
		return fmt.Errorf("%w: uuid is %q", ErrElement, rest.Clean(img.UUID))
	}
	if img.Name == "" || img.Version == "" {
		return fmt.Errorf("%w: %s has no name or version", ErrElement, img.UUID)
	}
	return nil
}

// ValidUUID says whether s is a UUID as the service writes it: lower case.
func ValidUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c < '0' || c > '9' && c < 'a' || c > 'f':
			return false
		}
	}
	return true
}

// budget bounds how far the decoder may read beyond where it stands: one
// element with what surrounds it.
type budget struct {
	r           io.Reader
	limit, left int64
	read        int64
}

// refill allows limit bytes beyond offset, the decoder's position.
func (b *budget) refill(offset int64) { b.left = offset + b.limit - b.read }

// Read gives no byte beyond the budget.
func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: more than %d bytes", rest.ErrTooLarge, b.limit)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.read += int64(n)
	return n, err
}

// GetImage returns one image by UUID: also an unactivated or disabled one,
// which the list hides. An unknown one is [rest.ErrNotFound]; so is one outside
// channel, where the server has channels ("" is its default, "*" any).
func (c *Client) GetImage(ctx context.Context, uuid, channel string) (*Image, error) {
	if !ValidUUID(uuid) {
		return nil, fail.New(fail.Usage, "image %q: not a lower-case UUID", rest.Clean(uuid))
	}
	img := new(Image)
	if _, err := c.rest.JSON(ctx, rest.Request{Path: rest.Path("images", uuid), Query: inChannel(channel)}, &img.Raw); err != nil {
		return nil, classify(err)
	}
	if err := img.fill(); err != nil {
		return nil, fmt.Errorf("GET %s/images/%s: %w", c.URL(), uuid, err)
	}
	if img.UUID != uuid {
		return nil, fmt.Errorf("GET %s/images/%s: answered with image %s", c.URL(), uuid, img.UUID)
	}
	return img, nil
}

func inChannel(channel string) url.Values {
	if channel == "" {
		return nil
	}
	return url.Values{"channel": {channel}}
}
