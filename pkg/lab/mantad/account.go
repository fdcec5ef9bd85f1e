package mantad

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"golang.org/x/crypto/ssh"
)

// Account is an owner of a namespace.
type Account struct {
	Login    string `json:"login"`
	Operator bool   `json:"operator,omitempty"` // may use every account's area
	Blocked  bool   `json:"blocked,omitempty"`  // 403 AccountBlocked
}

type account struct {
	Account
	Keys  []key   `json:"keys,omitempty"`
	Users []*user `json:"users,omitempty"`
}

type user struct {
	Login string   `json:"login"`
	Roles []string `json:"roles,omitempty"`
	Keys  []key    `json:"keys,omitempty"`
}

type key struct {
	Fingerprint string    `json:"fingerprint"`
	OpenSSH     string    `json:"openssh"`
	Added       time.Time `json:"added"`

	public crypto.PublicKey
}

// directory is what the service's authentication cache knows.
type directory struct {
	mu       sync.RWMutex
	path     string
	accounts map[string]*account
}

var loginRE = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_\-.@]*$`)

func openDirectory(path string) (*directory, error) {
	d := &directory{path: path, accounts: map[string]*account{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*account
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, a := range list {
		d.accounts[a.Login] = a
		if err := parseKeys(a.Keys); err != nil {
			return nil, fmt.Errorf("%s: account %s: %w", path, a.Login, err)
		}
		for _, u := range a.Users {
			if err := parseKeys(u.Keys); err != nil {
				return nil, fmt.Errorf("%s: user %s/%s: %w", path, a.Login, u.Login, err)
			}
		}
	}
	return d, nil
}

func parseKeys(keys []key) error {
	for i := range keys {
		k, err := parseKey(keys[i].OpenSSH)
		if err != nil {
			return err
		}
		keys[i].public = k.public
	}
	return nil
}

// parseKey reads a public key in authorized_keys form.
func parseKey(line string) (key, error) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return key{}, fmt.Errorf("public key: not in authorized_keys form: %w", err)
	}
	c, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return key{}, fmt.Errorf("public key: type %s is not supported", pub.Type())
	}
	return key{
		Fingerprint: ssh.FingerprintLegacyMD5(pub),
		OpenSSH:     strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))),
		public:      c.CryptoPublicKey(),
	}, nil
}

// save writes the directory. The caller holds the lock.
func (d *directory) save() error {
	list := make([]*account, 0, len(d.accounts))
	for _, a := range d.accounts {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *account) int { return strings.Compare(a.Login, b.Login) })
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(d.path, append(b, '\n'), 0o600)
}

// AddAccount makes an ordinary account. One that exists stays as it is.
func (s *Server) AddAccount(login string) error {
	if _, ok := s.accounts.account(login); ok {
		return nil
	}
	return s.SetAccount(Account{Login: login})
}

// SetAccount makes an account, or changes one that exists; its keys and users
// stay.
func (s *Server) SetAccount(a Account) error {
	if !loginRE.MatchString(a.Login) {
		return fmt.Errorf("account %q: not a login", a.Login)
	}
	d := s.accounts
	d.mu.Lock()
	defer d.mu.Unlock()
	if have := d.accounts[a.Login]; have != nil {
		if have.Account == a {
			return nil
		}
		have.Account = a
	} else {
		d.accounts[a.Login] = &account{Account: a}
	}
	return d.save()
}

// AddUser makes a sub-user, or changes its roles. A sub-user without a role is
// known but may do nothing; with one it may do what the account may. The roles
// count as active by default.
func (s *Server) AddUser(login, subuser string, roles ...string) error {
	if !loginRE.MatchString(subuser) {
		return fmt.Errorf("user %q: not a login", subuser)
	}
	d := s.accounts
	d.mu.Lock()
	defer d.mu.Unlock()
	u, err := d.user(login, subuser)
	if err != nil {
		return err
	}
	u.Roles = roles
	return d.save()
}

// user returns a sub-user and makes it if need be. The caller holds the lock.
func (d *directory) user(login, subuser string) (*user, error) {
	a := d.accounts[login]
	if a == nil {
		return nil, fmt.Errorf("account %s: no such account", login)
	}
	for _, u := range a.Users {
		if u.Login == subuser {
			return u, nil
		}
	}
	u := &user{Login: subuser}
	a.Users = append(a.Users, u)
	return u, nil
}

// AddKey gives an account, or its sub-user if subuser is not empty, a public key
// in authorized_keys form and returns its MD5 fingerprint (aa:bb:...). A sub-user
// that does not exist is made, without roles. With Config.KeyDelay the front ends
// learn of the key one after the other.
func (s *Server) AddKey(login, subuser, authorizedKey string) (string, error) {
	k, err := parseKey(authorizedKey)
	if err != nil {
		return "", err
	}
	k.Added = s.cfg.Clock().UTC()
	d := s.accounts
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, err := d.keys(login, subuser)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(*keys, func(o key) bool { return o.Fingerprint == k.Fingerprint }) {
		return k.Fingerprint, nil
	}
	*keys = append(*keys, k)
	return k.Fingerprint, d.save()
}

// RemoveKey takes a key away and says whether it was there.
func (s *Server) RemoveKey(login, subuser, fingerprint string) (bool, error) {
	d := s.accounts
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, err := d.keys(login, subuser)
	if err != nil {
		return false, err
	}
	n := len(*keys)
	*keys = slices.DeleteFunc(*keys, func(o key) bool { return o.Fingerprint == fingerprint })
	if len(*keys) == n {
		return false, nil
	}
	return true, d.save()
}

// keys returns the key list of an account or sub-user. The caller holds the lock.
func (d *directory) keys(login, subuser string) (*[]key, error) {
	a := d.accounts[login]
	if a == nil {
		return nil, fmt.Errorf("account %s: no such account", login)
	}
	if subuser == "" {
		return &a.Keys, nil
	}
	u, err := d.user(login, subuser)
	if err != nil {
		return nil, err
	}
	return &u.Keys, nil
}

// account returns a copy of what is known of a login.
func (d *directory) account(login string) (Account, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a := d.accounts[login]
	if a == nil {
		return Account{}, false
	}
	return a.Account, true
}

// hasRole says whether any sub-user of the account holds a role.
func (d *directory) hasRole(login, role string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a := d.accounts[login]
	return a != nil && slices.ContainsFunc(a.Users, func(u *user) bool { return slices.Contains(u.Roles, role) })
}

// caller is who signed a request.
type caller struct {
	Account
	user  string // sub-user
	roles []string
	anon  bool
}

// name is how error messages call the caller.
func (c caller) name() string {
	switch {
	case c.anon:
		return "anonymous"
	case c.user != "":
		return c.Login + "/" + c.user
	}
	return c.Login
}

// lookup finds the caller and key of a signature.
func (d *directory) lookup(id keyID) (caller, *key, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a := d.accounts[id.account]
	if a == nil {
		return caller{}, nil, fault(403, "AccountDoesNotExist", "%s does not exist", id.account)
	}
	c, keys := caller{Account: a.Account}, a.Keys
	if id.user != "" {
		i := slices.IndexFunc(a.Users, func(u *user) bool { return u.Login == id.user })
		if i < 0 {
			return caller{}, nil, fault(403, "UserDoesNotExist", "%s/%s does not exist", id.account, id.user)
		}
		c.user, c.roles, keys = id.user, slices.Clone(a.Users[i].Roles), a.Users[i].Keys
	}
	if a.Blocked {
		return caller{}, nil, fault(403, "AccountBlocked", "%s is not an active account", a.Login)
	}
	for i := range keys {
		if keys[i].Fingerprint == id.fingerprint {
			k := keys[i]
			return c, &k, nil
		}
	}
	return c, nil, id.unknown()
}

// statePath names a file of the server's directory.
func (s *Server) statePath(name string) string { return filepath.Join(s.cfg.Dir, name) }
