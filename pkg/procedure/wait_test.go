package procedure

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAWaitEndsWhenItsConditionHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, n := time.Now(), 0
		var notes []string
		err := Wait{What: "job", Every: 3 * time.Second, Within: time.Minute}.Until(t.Context(),
			func(r string) { notes = append(notes, r) },
			func(context.Context) (bool, string, error) { n++; return n == 5, "running", nil })
		if err != nil || time.Since(start) != 12*time.Second || len(notes) != 1 {
			t.Errorf("%v after %s, notes %q", err, time.Since(start), notes)
		}
	})
}

func TestAWaitThatRunsOutIsAnErrorWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := Wait{What: "ufds slave dc2", Within: 10 * time.Minute}.Until(t.Context(), nil,
			func(context.Context) (bool, string, error) { return false, "18 changes behind", nil })
		var te *TimeoutError
		if !errors.As(err, &te) || err.Error() != "ufds slave dc2: not reached within 10m0s: 18 changes behind" || time.Since(start) != 10*time.Minute {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

func TestALookThatHangsEndsWithTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		err := Wait{What: "ping", Within: time.Minute}.Until(t.Context(), nil,
			func(ctx context.Context) (bool, string, error) {
				if n++; n == 1 {
					return false, "connection refused", nil
				}
				<-ctx.Done()
				return false, "", ctx.Err()
			})
		if err == nil || err.Error() != "ping: not reached within 1m0s: connection refused" {
			t.Errorf("%v", err)
		}
	})
}

func TestAWaitEndsAtOnceWithItsContextOrAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		err := Wait{What: "ping", Every: time.Hour}.Until(ctx, nil,
			func(context.Context) (bool, string, error) { return false, "", nil })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		err = Wait{What: "ping", Within: time.Hour}.Until(t.Context(), nil,
			func(context.Context) (bool, string, error) { return false, "", errBoom })
		if !errors.Is(err, errBoom) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}
