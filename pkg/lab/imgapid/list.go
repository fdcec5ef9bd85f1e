package imgapid

import (
	"math"
	"net/http"
	"slices"
	"strings"
)

// A filter is what one scan of the manifests looks for. A nil value is no
// condition; a list never equals anything.
type filter struct {
	want        map[string][]string
	acl         string
	tags        []string
	channel     string
	billingTags bool // a listing by billing tag dies in the local database
}

// A listing is a parsed ListImages query.
type listing struct {
	filters    []filter
	none       bool // nothing can match
	limit      float64
	marker     string
	hasMarker  bool
	descending bool
}

// parseListing reads the query. anonymous callers see active images only. The
// error is an apiError or a crash.
func parseListing(q query, anonymous bool, channel string) (listing, error) {
	var l listing
	if q.get("limit") != "" {
		n, ok := number(q.get("limit"))
		if !ok || q.list("limit") {
			// the blame on "state" is upstream's
			return l, errField("InvalidParameter", "state", "Invalid", "invalid limit: \"%s\"", q.get("limit"))
		}
		l.limit = n
	}
	base := filter{want: map[string][]string{}, channel: channel, billingTags: q.has("billing_tag")}
	if err := stateFilter(&l, &base, q.get("state"), anonymous); err != nil || l.none {
		return l, err
	}
	if q.has("public") {
		if _, err := q.boolean("public"); err != nil {
			return l, crashf("InvalidParameterError: %s", err)
		}
		base.want["public"] = q.vals["public"]
	}
	for _, f := range []string{"name", "version", "owner", "os", "type"} {
		if q.has(f) {
			base.want[f] = q.vals[f]
		}
	}
	for _, k := range q.keys {
		if tag, ok := strings.CutPrefix(k, "tag."); ok {
			base.tags = append(base.tags, tag+"="+q.get(k))
		}
	}
	l.filters = scopes(base, q)
	return l, sortOrder(&l, q)
}

func stateFilter(l *listing, f *filter, state string, anonymous bool) error {
	active := func(activated, disabled string) {
		f.want["activated"], f.want["disabled"] = []string{activated}, []string{disabled}
	}
	switch state {
	case "", "active":
		active("true", "false")
	case "all":
		if anonymous {
			active("true", "false")
		}
	case "disabled", "unactivated", "creating", "failed":
		l.none = anonymous
		switch state {
		case "disabled":
			active("true", "true")
		case "unactivated":
			f.want["activated"] = []string{"false"}
		default:
			f.want["state"] = []string{state}
		}
	default:
		return errField("InvalidParameter", "state", "Invalid", "invalid state: \"%s\"", state)
	}
	return nil
}

// scopes widens a filter to what an account may see: its own images, public
// ones and those shared with it.
func scopes(base filter, q query) []filter {
	account := q.get("account")
	if account == "" {
		return []filter{base}
	}
	with := func(kv ...string) filter {
		f := base
		f.want = map[string][]string{}
		for k, v := range base.want {
			f.want[k] = v
		}
		for i := 0; i < len(kv); i += 2 {
			f.want[kv[i]] = []string{kv[i+1]}
		}
		return f
	}
	owner := q.get("owner")
	var out []filter
	if owner == "" || owner == account {
		out = append(out, with("owner", account))
	}
	if owner == account || slices.Equal(base.want["activated"], []string{"false"}) || slices.Equal(base.want["disabled"], []string{"true"}) {
		return out
	}
	if q.get("public") != "false" {
		out = append(out, with("public", "true", "activated", "true"))
	}
	if q.get("public") != "true" {
		shared := with("public", "false", "activated", "true")
		shared.acl = account
		out = append(out, shared)
	}
	return out
}

func sortOrder(l *listing, q query) error {
	if !q.has("sort") || q.get("sort") == "" && !q.list("sort") {
		return nil
	}
	if q.list("sort") {
		return crashf("TypeError: params.sort.split is not a function")
	}
	parts := strings.Split(q.get("sort"), ".")
	if len(parts) > 1 && parts[1] != "" {
		l.descending = parts[1] != "ASC" && parts[1] != "asc"
	}
	if parts[0] != "published_at" {
		return errField("InvalidParameter", "sort", "Invalid", "invalid 'sort': not a valid sorting attribute: '%s'", parts[0])
	}
	return nil
}

// setMarker resolves a marker: an image's uuid or a date.
func (l *listing) setMarker(marker string, find func(string) *image) error {
	if uuidRE.MatchString(marker) {
		im := find(marker)
		if im == nil {
			return errNotFound(marker)
		}
		l.marker, l.hasMarker = im.published, im.published != ""
		return nil
	}
	if marker == "" {
		return nil
	}
	t, ok := parseDate(marker)
	if !ok {
		return errField("InvalidParameter", "marker", "Invalid", "invalid value for \"marker\" param: %s is not a UUID or date string", compact(marker))
	}
	l.marker, l.hasMarker = isoDate(t), true
	return nil
}

func (f filter) matches(im *image) (bool, error) {
	for _, name := range filterFields {
		want, ok := f.want[name]
		if !ok {
			continue
		}
		if len(want) != 1 || !matchField(name, im.field(name), want[0]) {
			return false, nil
		}
	}
	if f.acl != "" && !slices.Contains(im.acl, f.acl) || f.channel != "" && !slices.Contains(im.channels, f.channel) {
		return false, nil
	}
	for _, t := range f.tags {
		if !slices.Contains(im.tags, t) {
			return false, nil
		}
	}
	if f.billingTags {
		return false, crashf(`TypeError: unknown filter field type: "undefined"`)
	}
	return true, nil
}

func matchField(name, have, want string) bool {
	switch name {
	case "name", "version":
		if sub, ok := strings.CutPrefix(want, "~"); ok {
			return strings.Contains(have, sub)
		}
	case "type":
		if not, ok := strings.CutPrefix(want, "!"); ok {
			return have != not
		}
	}
	return have == want
}

// scan walks the images in memory order and stops at the limit, whatever the
// order asked for: with DESC that gives the oldest, reversed, as upstream.
func (l listing) scan(images []*image, f filter) ([]*image, error) {
	var hits []*image
	for _, im := range images {
		ok, err := f.matches(im)
		if err != nil {
			return nil, err
		}
		if ok && l.hasMarker && im.published != "" {
			if l.descending {
				ok = im.published <= l.marker
			} else {
				ok = im.published >= l.marker
			}
		}
		if ok {
			hits = append(hits, im)
		}
		if l.limit != 0 && float64(len(hits)) >= l.limit {
			break
		}
	}
	return hits, nil
}

// run answers the listing from the images in memory order.
func (l listing) run(images []*image) ([]*image, error) {
	if l.none {
		return nil, nil
	}
	seen := map[string]bool{}
	var all []*image
	for _, f := range l.filters {
		hits, err := l.scan(images, f)
		if err != nil {
			return nil, err
		}
		for _, im := range hits {
			if !seen[im.uuid] {
				seen[im.uuid] = true
				all = append(all, im)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *image) int {
		if l.descending {
			a, b = b, a
		}
		return int(min(max(a.ms-b.ms, -1), 1))
	})
	if l.limit == 0 {
		return all, nil
	}
	end := math.Trunc(l.limit) // Array.slice: a negative end counts from the back
	if end < 0 {
		end = max(0, float64(len(all))+end)
	}
	return all[:int(min(end, float64(len(all))))], nil
}

func (c *call) listImages() error {
	if err := c.adminFields(); err != nil {
		return err
	}
	channel := ""
	if c.channel != nil {
		channel = c.channel.Name
	}
	l, err := parseListing(c.q, c.user == "", channel)
	if err == nil && !l.none {
		err = l.setMarker(c.q.get("marker"), c.p.db.find)
	}
	if err != nil {
		return err
	}
	images, err := l.run(c.p.db.list())
	if err != nil {
		return err
	}
	out := make([]any, len(images))
	for i, im := range images {
		out[i] = c.view().public(im.object())
	}
	c.send(http.StatusOK, out)
	return nil
}

// adminFields reads inclAdminFields, for which a signature is needed.
func (c *call) adminFields() error {
	admin, err := c.q.boolean("inclAdminFields")
	if err != nil {
		return err
	}
	if admin && c.user == "" {
		return unauthorized("Unauthorized (auth required to use \"inclAdminFields\" parameter)")
	}
	c.admin = admin
	return nil
}

func (c *call) view() view {
	return view{mode: c.p.set.Mode, channels: c.version.second(), admin: c.admin}
}
