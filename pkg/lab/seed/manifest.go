package seed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	stamp      = "2006-01-02T15:04:05.000Z"
	unsetOwner = "00000000-0000-0000-0000-000000000000"
)

// raw is the internal form of a manifest, members in the order the server
// writes them.
type raw struct {
	V            int              `json:"v"`
	Owner        string           `json:"owner"`
	Name         string           `json:"name"`
	Version      string           `json:"version"`
	Type         string           `json:"type"`
	OS           string           `json:"os"`
	Public       bool             `json:"public"`
	Disabled     bool             `json:"disabled"`
	Activated    bool             `json:"activated"`
	State        string           `json:"state"`
	ACL          []string         `json:"acl"`
	Description  string           `json:"description,omitempty"`
	Homepage     string           `json:"homepage,omitempty"`
	Requirements *requirements    `json:"requirements,omitempty"`
	Users        []map[string]any `json:"users,omitempty"`
	TagList      []string         `json:"tags,omitempty"`
	Tags         json.RawMessage  `json:"tagsObj,omitempty"`
	Passwords    *bool            `json:"generate_passwords,omitempty"`
	Origin       string           `json:"origin,omitempty"`
	Channels     []string         `json:"channels,omitempty"`
	NIC          string           `json:"nic_driver,omitempty"`
	Disk         string           `json:"disk_driver,omitempty"`
	CPU          string           `json:"cpu_type,omitempty"`
	ImageSize    int              `json:"image_size,omitempty"`
	UUID         string           `json:"uuid"`
	Files        []file           `json:"files,omitempty"`
	Icon         *icon            `json:"icon,omitempty"`
	Published    string           `json:"published_at,omitempty"`
}

type requirements struct {
	Networks    []map[string]string `json:"networks,omitempty"`
	Brand       string              `json:"brand,omitempty"`
	Bootrom     string              `json:"bootrom,omitempty"`
	SSHKey      bool                `json:"ssh_key,omitempty"`
	MinRAM      int                 `json:"min_ram,omitempty"`
	MinPlatform map[string]string   `json:"min_platform,omitempty"`
}

type file struct {
	SHA1        string `json:"sha1"`
	Size        int64  `json:"size"`
	ContentMD5  string `json:"contentMD5"`
	MTime       string `json:"mtime"`
	Stor        string `json:"stor"`
	Compression string `json:"compression"`
	DatasetGUID string `json:"dataset_guid,omitempty"`
}

type icon struct {
	SHA1        string `json:"sha1"`
	Size        int64  `json:"size"`
	ContentType string `json:"contentType"`
	ContentMD5  string `json:"contentMD5"`
	MTime       string `json:"mtime"`
	Stor        string `json:"stor"`
}

// public is the form the API shows and the archive keeps.
type public struct {
	V            int              `json:"v"`
	UUID         string           `json:"uuid"`
	Owner        string           `json:"owner"`
	Name         string           `json:"name"`
	Version      string           `json:"version"`
	State        string           `json:"state"`
	Disabled     bool             `json:"disabled"`
	Public       bool             `json:"public"`
	Published    string           `json:"published_at,omitempty"`
	Type         string           `json:"type"`
	OS           string           `json:"os"`
	Files        []publicFile     `json:"files"`
	ACL          []string         `json:"acl,omitempty"`
	Description  string           `json:"description,omitempty"`
	Homepage     string           `json:"homepage,omitempty"`
	Icon         bool             `json:"icon,omitempty"`
	Requirements *requirements    `json:"requirements,omitempty"`
	Users        []map[string]any `json:"users,omitempty"`
	Passwords    *bool            `json:"generate_passwords,omitempty"`
	Origin       string           `json:"origin,omitempty"`
	NIC          string           `json:"nic_driver,omitempty"`
	Disk         string           `json:"disk_driver,omitempty"`
	CPU          string           `json:"cpu_type,omitempty"`
	ImageSize    int              `json:"image_size,omitempty"`
	Tags         json.RawMessage  `json:"tags,omitempty"`
	Channels     []string         `json:"channels,omitempty"`
}

type publicFile struct {
	SHA1        string `json:"sha1"`
	Size        int64  `json:"size"`
	Compression string `json:"compression"`
	DatasetGUID string `json:"dataset_guid,omitempty"`
}

// an imageSpec is one image before its bytes exist.
type imageSpec struct {
	raw     raw
	when    string // publishing time; also the time of files that are not published yet
	hasFile bool
	icon    bool
}

func (im *imageSpec) public() public {
	r := &im.raw
	p := public{V: r.V, UUID: r.UUID, Owner: r.Owner, Name: r.Name, Version: r.Version, State: r.State, Disabled: r.Disabled,
		Public: r.Public, Published: r.Published, Type: r.Type, OS: r.OS, Files: []publicFile{}, ACL: r.ACL,
		Description: r.Description, Homepage: r.Homepage, Icon: r.Icon != nil, Requirements: r.Requirements, Users: r.Users,
		Origin: r.Origin, NIC: r.NIC, Disk: r.Disk, CPU: r.CPU, ImageSize: r.ImageSize, Tags: r.Tags, Channels: r.Channels}
	if r.Passwords != nil && *r.Passwords {
		p.Passwords = r.Passwords
	}
	for _, f := range r.Files {
		p.Files = append(p.Files, publicFile{f.SHA1, f.Size, f.Compression, f.DatasetGUID})
	}
	return p
}

// encode is JSON as the server writes it: indented by two, no final newline.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic("seed: " + err.Error()) // plain structs always encode
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// identity is what other images may need to know of image i: cheap, and drawn
// before everything else.
func (m *maker) identity(i int) (uuid string, p product, state string) {
	d := m.dice(i, forIdentity)
	uuid = uuidFrom(d)
	p = m.products[d.IntN(len(m.products))]
	state = "active"
	switch n := d.IntN(100); {
	case n < 4:
		state = "disabled"
	case n < 6:
		state = "unactivated"
	}
	return uuid, p, state
}

func uuidFrom(d *rand.Rand) string {
	a, b := d.Uint64(), d.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(a>>32), uint16(a>>16), uint16(a)&0xfff, uint16(b>>48)&0x3fff|0x8000, b&0xffffffffffff)
}

// describe makes everything of image i but its bytes.
func (m *maker) describe(i int) *imageSpec {
	uuid, p, state := m.identity(i)
	d := m.dice(i, forManifest)
	im := &imageSpec{when: m.published(i, d), hasFile: true}
	im.raw = raw{V: 2, Owner: unsetOwner, Name: p.name, Version: p.version(d), Type: p.typ, OS: p.os,
		Public: m.cfg.Mode == "public", Disabled: state == "disabled", Activated: state != "unactivated", State: state,
		ACL: []string{}, Description: p.description, Homepage: p.homepage, UUID: uuid}
	if d.IntN(10) < 3 {
		im.raw.Owner = uuidFrom(rand.New(rand.NewPCG(m.cfg.Seed, uint64(d.IntN(12))))) // a dozen owners
	}
	if m.cfg.Mode == "private" || d.IntN(20) == 0 {
		for range d.IntN(4) {
			im.raw.ACL = append(im.raw.ACL, uuidFrom(d))
		}
	}
	p.fill(&im.raw, d)
	im.raw.Origin = m.origin(i, p, d)
	if n := len(m.cfg.Channels); n > 0 {
		at := d.IntN(n)
		im.raw.Channels = m.cfg.Channels[at:min(n, at+1+d.IntN(2))]
	}
	if im.raw.Activated {
		im.raw.Published = im.when
	} else {
		im.hasFile = d.IntN(2) == 0
	}
	im.icon = m.iconic(i) && im.hasFile && d.IntN(25) == 0
	return im
}

// iconic says whether image i may have an icon: images without bytes have none.
func (m *maker) iconic(i int) bool {
	stor, bytes := m.place(i)
	if m.cfg.Stor == Local && stor == Manta {
		return false // so that the same seed makes the same images with and without Manta
	}
	return bytes
}

// published spreads the images over ten years, in order: an origin is older than
// what builds on it.
func (m *maker) published(i int, d *rand.Rand) string {
	start := time.Date(2014, 1, 7, 9, 0, 0, 0, time.UTC)
	step := (10 * 365 * 24 * time.Hour) / time.Duration(max(m.cfg.Images, 1))
	at := start.Add(step*time.Duration(i) + time.Duration(d.Int64N(int64(max(step, 2))/2+1)))
	return at.Format(stamp)
}

// origin gives one image in six an active ancestor of the same product among
// those before it, so that chains form.
func (m *maker) origin(i int, p product, d *rand.Rand) string {
	if d.IntN(6) != 0 {
		return ""
	}
	for j := i - 1; j >= max(0, i-60); j-- {
		uuid, q, state := m.identity(j)
		if q.name == p.name && state == "active" {
			return uuid
		}
	}
	return ""
}
