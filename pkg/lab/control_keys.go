package lab

import (
	"net/http"

	"github.com/tritonops/tritonops/pkg/fail"
)

func (l *Lab) keyOf(r *http.Request) (KeyRequest, error) {
	var req KeyRequest
	if err := read(r, &req); err != nil {
		return req, err
	}
	if req.Key != "" {
		return req, nil
	}
	z, err := l.instance(req.Instance)
	if err != nil {
		return req, err
	}
	req.Key, err = z.publicKey()
	return req, err
}

func (l *Lab) controlAddKey(r *http.Request) (any, error) {
	req, err := l.keyOf(r)
	if err != nil {
		return nil, err
	}
	id, err := l.manta.AddKey(l.state.Account, "", req.Key)
	if err != nil {
		return nil, fail.As(fail.Usage, err)
	}
	return map[string]string{"key_id": id}, l.rememberKey(req.Instance, true)
}

func (l *Lab) controlRemoveKey(r *http.Request) (any, error) {
	req, err := l.keyOf(r)
	if err != nil {
		return nil, err
	}
	id, err := fingerprintOf(req.Key)
	if err != nil {
		return nil, fail.As(fail.Usage, err)
	}
	there, err := l.manta.RemoveKey(l.state.Account, "", id)
	if err != nil {
		return nil, err
	}
	return map[string]any{"key_id": id, "removed": there}, l.rememberKey(req.Instance, false)
}

func (l *Lab) rememberKey(instance string, on bool) error {
	if instance == "" {
		return nil
	}
	z, err := l.instance(instance)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	z.KeyOnAccount = on
	return l.state.save()
}

// controlCron runs the hourly jobs now, whether or not their hour has come.
func (l *Lab) controlCron(r *http.Request) (any, error) {
	z, err := l.instance(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	now := l.cfg.Now()
	if err := z.rotate(now); err != nil {
		return nil, err
	}
	return struct{}{}, z.uploadLogs(r.Context(), now)
}
