package transport_test

import (
	"errors"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

func TestBadConfig(t *testing.T) {
	w := newWorld(t, defaultServer)
	s := w.source()
	for _, tt := range []struct {
		field string
		make  func() error
	}{
		{"Config.Source", func() error {
			_, err := transport.New(transport.Config{Origins: []string{"https://x.test"}})
			return err
		}},
		{"Config.Origins", func() error { _, err := transport.New(transport.Config{Source: s}); return err }},
		{"Config.Origins", func() error {
			_, err := transport.New(transport.Config{Source: s, Origins: []string{"x.test"}})
			return err
		}},
		{"SourceConfig.Cache", func() error {
			_, err := transport.NewSource(transport.SourceConfig{Refresher: w.endpoint()})
			return err
		}},
		{"SourceConfig.Refresher", func() error { _, err := transport.NewSource(transport.SourceConfig{Cache: w.cache()}); return err }},
		{"SourceConfig.Key", func() error {
			_, err := transport.NewSource(transport.SourceConfig{Cache: w.cache(), Refresher: endpoint.FromTokenSource(s.OAuth2())})
			return err
		}},
		{"SourceConfig.Key.ClientID", func() error {
			cfg := *s.Cfg()
			cfg.Key.ClientID = "another"
			_, err := transport.NewSource(cfg)
			return err
		}},
		{"SourceConfig.Lead", func() error { cfg := *s.Cfg(); cfg.Lead = -1; _, err := transport.NewSource(cfg); return err }},
		{"SourceConfig.Skew", func() error { cfg := *s.Cfg(); cfg.Skew = -1; _, err := transport.NewSource(cfg); return err }},
		{"SourceConfig.Timeout", func() error { cfg := *s.Cfg(); cfg.Timeout = -1; _, err := transport.NewSource(cfg); return err }},
	} {
		err := tt.make()
		e, ok := errors.AsType[*transport.Error](err)
		if !ok || !errors.Is(err, transport.ErrMisconfigured) || e.Field != tt.field || e.Remedy == "" {
			t.Errorf("%s: got %v", tt.field, err)
		}
	}
	if err := s.Login(t.Context(), record(noTokens)); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("a login without tokens: %v", err)
	}
}
