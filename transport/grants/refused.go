package grants

import (
	"context"
	"errors"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// A refused grant says what it means at this provider that nothing was granted.
type refused struct {
	transport.Refresher
	transport.Prober
	explain func(*transport.Error)
}

func (r refused) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	rec, err := r.Refresher.Refresh(ctx, current)
	e, ok := errors.AsType[*transport.Error](err)
	if !ok || e.Kind != transport.ErrMisconfigured {
		return rec, err
	}
	told := *e
	r.explain(&told)
	return nil, &told
}
