// The first calls of a caller: render a template, change one field of it with a mask, and read an error.
//
//	go run . TEMPLATE_TYPE [USER_ID]
//
// ../README.md says how to run it. The registry is at TEMPLATES_ADDRESS (127.0.0.1:50051 unless set). TEMPLATES_KEY is
// an API key, whose owner is the user if no other is given.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	templatesv1 "example.com/first_calls/stubs/omniflo/templates/v1"
)

func main() {
	if len(os.Args) != 2 && len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "go run . TEMPLATE_TYPE [USER_ID]")
		os.Exit(2)
	}
	// An empty USER_ID is none.
	if err := run(os.Args[1], append(os.Args, "")[2]); err != nil {
		fmt.Fprintln(os.Stderr, explain(err))
		os.Exit(1)
	}
}

func run(templateType, userID string) error {
	// Says which calls the connection may retry.
	serviceConfig, err := os.ReadFile("../../docs/service_config.json")
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(
		cmp.Or(os.Getenv("TEMPLATES_ADDRESS"), "127.0.0.1:50051"),
		// On a network: credentials.NewTLS(nil).
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(serviceConfig)),
		grpc.WithUnaryInterceptor(prepare),
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	templates := templatesv1.NewTemplateServiceClient(connection)
	ctx := context.Background()

	rendered, err := templates.RenderTemplate(ctx, &templatesv1.RenderTemplateRequest{
		Key: &templatesv1.RenderTemplateRequest_Resolve{
			Resolve: &templatesv1.ResolutionKey{UserId: userID, TemplateType: templateType},
		},
	})
	if err != nil {
		return err
	}
	fmt.Println("send to OpenAI:", rendered.ResponsesRequest)
	for _, adjustment := range rendered.Adjustments {
		fmt.Printf("left out: %s: %s\n", adjustment.Field, adjustment.Reason)
	}

	// Only what the mask names is changed, and with the etag only if nobody else has changed the template since. A
	// write with a request_id can be sent again.
	updated, err := templates.UpdateTemplate(ctx, &templatesv1.UpdateTemplateRequest{
		Template: &templatesv1.Template{
			Id: rendered.Template.Id, Etag: rendered.Template.Etag, Description: "Used from Go",
		},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"description"}},
		RequestId:  rand.Text(),
	})
	if err != nil {
		return err
	}
	fmt.Println("description:", updated.Description)

	_, err = templates.UpdateTemplate(ctx, &templatesv1.UpdateTemplateRequest{
		Template:   &templatesv1.Template{Id: rendered.Template.Id, Temperature: proto.Float64(3)},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"temperature"}},
	})
	fmt.Println(explain(err))
	return nil
}

// prepare gives each call a deadline and, where there is one, the key.
func prepare(ctx context.Context, method string, request, response any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if key := os.Getenv("TEMPLATES_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	return invoke(ctx, method, request, response, connection, options...)
}

// explain says what an error says: its code, its reason, and which fields are wrong.
func explain(err error) string {
	failure := status.Convert(err)
	text := failure.Code().String()
	violations := ""
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			// The reason is a value of ErrorReason without its prefix: ERROR_REASON_FIELD_INVALID is FIELD_INVALID.
			text += " " + detail.Reason
		case *errdetails.BadRequest:
			for _, each := range detail.FieldViolations {
				violations += fmt.Sprintf("\n  %s: %s", each.Field, each.Description)
			}
		}
	}
	return fmt.Sprintf("%s: %s%s", text, failure.Message(), violations)
}
