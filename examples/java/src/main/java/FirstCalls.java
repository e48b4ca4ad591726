import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.Any;
import com.google.protobuf.FieldMask;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import com.omniflo.templates.v1.Adjustment;
import com.omniflo.templates.v1.RenderTemplateRequest;
import com.omniflo.templates.v1.RenderTemplateResponse;
import com.omniflo.templates.v1.ResolutionKey;
import com.omniflo.templates.v1.Template;
import com.omniflo.templates.v1.TemplateServiceGrpc;
import com.omniflo.templates.v1.TemplateServiceGrpc.TemplateServiceBlockingStub;
import com.omniflo.templates.v1.UpdateTemplateRequest;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/**
 * The first calls of a caller: render a template, change one field of it with a mask, and read an error.
 *
 * <p>Its arguments are TEMPLATE_TYPE [USER_ID]; ../README.md says how to run it. The registry is at TEMPLATES_ADDRESS
 * (127.0.0.1:50051 unless set). TEMPLATES_KEY is an API key, whose owner is the user if no other is given.
 */
public class FirstCalls {
  private static final Path SERVICE_CONFIG = Path.of("../../docs/service_config.json");

  public static void main(String[] arguments) throws IOException, InterruptedException {
    if (arguments.length == 0) {
      System.err.println("The arguments are TEMPLATE_TYPE [USER_ID].");
      System.exit(2);
    }
    // Says which calls the channel may retry.
    Map<String, ?> serviceConfig =
        new Gson().fromJson(Files.readString(SERVICE_CONFIG), new TypeToken<Map<String, ?>>() {}.getType());
    ManagedChannel channel =
        ManagedChannelBuilder.forTarget(System.getenv().getOrDefault("TEMPLATES_ADDRESS", "127.0.0.1:50051"))
            // On a network: useTransportSecurity().
            .usePlaintext()
            .defaultServiceConfig(serviceConfig)
            .build();
    Metadata metadata = new Metadata();
    if (System.getenv("TEMPLATES_KEY") != null) {
      metadata.put(
          Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
          "Bearer " + System.getenv("TEMPLATES_KEY"));
    }
    try {
      run(
          TemplateServiceGrpc.newBlockingStub(channel)
              .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata)),
          arguments[0],
          arguments.length > 1 ? arguments[1] : "");
    } catch (StatusRuntimeException error) {
      System.err.println(explain(error));
      System.exit(1);
    } finally {
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private static void run(TemplateServiceBlockingStub templates, String templateType, String userId) {
    ResolutionKey resolve = ResolutionKey.newBuilder().setUserId(userId).setTemplateType(templateType).build();
    RenderTemplateResponse rendered =
        within5Seconds(templates).renderTemplate(RenderTemplateRequest.newBuilder().setResolve(resolve).build());
    System.out.println("send to OpenAI: " + rendered.getResponsesRequest());
    for (Adjustment adjustment : rendered.getAdjustmentsList()) {
      System.out.println("left out: " + adjustment.getField() + ": " + adjustment.getReason());
    }

    // Only what the mask names is changed, and with the etag only if nobody else has changed the template since. A write
    // with a request_id can be sent again.
    Template.Builder template = Template.newBuilder().setId(rendered.getTemplate().getId());
    UpdateTemplateRequest update =
        UpdateTemplateRequest.newBuilder()
            .setTemplate(template.clone().setEtag(rendered.getTemplate().getEtag()).setDescription("Used from Java"))
            .setUpdateMask(FieldMask.newBuilder().addPaths("description"))
            .setRequestId(UUID.randomUUID().toString())
            .build();
    System.out.println("description: " + within5Seconds(templates).updateTemplate(update).getDescription());

    UpdateTemplateRequest wrong =
        UpdateTemplateRequest.newBuilder()
            .setTemplate(template.clone().setTemperature(3))
            .setUpdateMask(FieldMask.newBuilder().addPaths("temperature"))
            .build();
    try {
      within5Seconds(templates).updateTemplate(wrong);
    } catch (StatusRuntimeException error) {
      System.out.println(explain(error));
    }
  }

  /** A deadline is a point in time, so each call gets its own. */
  private static TemplateServiceBlockingStub within5Seconds(TemplateServiceBlockingStub templates) {
    return templates.withDeadlineAfter(5, TimeUnit.SECONDS);
  }

  /** Says what an error says: its code, its reason, and which fields are wrong. */
  private static String explain(StatusRuntimeException error) {
    Status status = StatusProto.fromThrowable(error);
    StringBuilder reasons = new StringBuilder();
    StringBuilder violations = new StringBuilder();
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          // The reason is a value of ErrorReason without its prefix: ERROR_REASON_FIELD_INVALID is FIELD_INVALID.
          reasons.append(' ').append(detail.unpack(ErrorInfo.class).getReason());
        } else if (detail.is(BadRequest.class)) {
          for (BadRequest.FieldViolation each : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            violations.append("\n  ").append(each.getField()).append(": ").append(each.getDescription());
          }
        }
      }
    } catch (InvalidProtocolBufferException malformed) {
      throw new IllegalStateException(malformed);
    }
    return error.getStatus().getCode() + "" + reasons + ": " + status.getMessage() + violations;
  }
}
