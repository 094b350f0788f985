module github.com/stayauth/stayauth/transport/grpcauth

go 1.26.0

require (
	github.com/stayauth/stayauth v0.0.0
	golang.org/x/oauth2 v0.37.0
	google.golang.org/grpc v1.74.2
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/gofrs/flock v0.13.1 // indirect
	golang.org/x/net v0.40.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.25.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250528174236-200df99c418a // indirect
	google.golang.org/protobuf v1.36.6 // indirect
)

replace github.com/stayauth/stayauth => ../..
