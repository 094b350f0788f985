package otelstayauth_test

import (
	"context"
	"fmt"
	"log"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/otelstayauth"
)

// A program that has its events counted, and looks at one of them itself.
func Example() {
	ctx := context.Background()
	srv := oauthtest.New(oauthtest.Config{})
	defer srv.Close()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	reader := metric.NewManualReader() // Yours has an exporter.
	record := otelstayauth.OnEvent(otelstayauth.Config{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})

	source, err := transport.NewSource(transport.SourceConfig{
		Cache: cache,
		Refresher: &endpoint.Endpoint{
			TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), ClientSecret: tokencache.Secret(srv.ClientSecret()),
			AuthStyle: oauth2.AuthStyleInHeader, Base: srv.RoundTripper(),
		},
		OnEvent: func(ctx context.Context, e transport.Event) {
			record(ctx, e)
			if e.Type == transport.EventRefreshed {
				fmt.Println("refreshed, generation", e.Generation)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	login := srv.Login("ann")
	if err := source.Login(ctx, &tokencache.Record{RefreshToken: tokencache.Secret(login.RefreshToken)}); err != nil {
		log.Fatal(err)
	}
	if _, err := source.Token(ctx); err != nil {
		log.Fatal(err)
	}
	if err := source.Close(ctx); err != nil {
		log.Fatal(err)
	}

	var all metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &all); err != nil {
		log.Fatal(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Histogram[float64]:
			fmt.Println(m.Name, data.DataPoints[0].Count)
		case metricdata.Sum[int64]:
			for _, d := range data.DataPoints {
				event, _ := d.Attributes.Value("stayauth.event")
				fmt.Println(m.Name, event.AsString(), d.Value)
			}
		}
	}
	// Unordered output:
	// refreshed, generation 2
	// stayauth.refresh.duration 1
	// stayauth.events login 1
	// stayauth.events refreshed 1
}
