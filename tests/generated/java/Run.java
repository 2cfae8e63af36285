import asr.ApiClient;
import asr.ApiException;
import asr.api.JobsApi;
import asr.api.TranscriptsApi;
import asr.api.UploadsApi;
import asr.model.Job;
import asr.model.JobRequest;
import asr.model.JobStatus;
import asr.model.Problem;
import asr.model.Transcript;
import asr.model.Upload;
import java.io.File;
import java.nio.file.Files;
import java.util.Map;
import java.util.UUID;

/** Submit, wait, transcript, upload, 422 with the client that openapi-generator makes for Java. */
public final class Run {
    private static final String SAMPLE =
            "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav";

    public static void main(String[] arguments) throws Exception {
        ApiClient client = new ApiClient();
        client.updateBaseUri(arguments[0]);
        client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + arguments[1]));
        JobsApi jobs = new JobsApi(client);
        TranscriptsApi transcripts = new TranscriptsApi(client);

        Job created = jobs.createJob(new JobRequest().addFileUrlsItem(SAMPLE), null, "java-1", null);
        Job job = jobs.getJob(created.getId(), 60, null);
        check(job.getStatus() == JobStatus.SUCCEEDED, job);

        UUID transcriptId = job.getFiles().get(0).getTranscriptId();
        Transcript transcript = transcripts.getTranscript(transcriptId, null, null, null);
        check(transcript.getText().toLowerCase().contains("world"), transcript);
        check(transcript.getTranscripts().get(0).getSentences().get(0).getEndTime() > 0, transcript);
        String captions =
                Files.readString(
                        transcripts.getTranscriptSrt(transcriptId, null, null, 20, null, null, null, null).toPath());
        check(captions.contains(" --> "), captions);

        File recording = Files.write(Files.createTempFile("recording", ".wav"), new byte[] {82, 73, 70, 70}).toFile();
        Upload upload = new UploadsApi(client).createUpload(recording, "fun-asr", null);
        check(upload.getSizeBytes() == 4, upload);

        try {
            JobRequest wrong = new JobRequest().addFileUrlsItem(SAMPLE).parameters(Map.of("speaker_count", 1));
            check(false, jobs.createJob(wrong, null, null, null));
        } catch (ApiException refused) {
            check(refused.getCode() == 422, refused);
            Problem problem = client.getObjectMapper().readValue(refused.getResponseBody(), Problem.class);
            check(problem.getCode().equals("validation_failed"), problem);
            check(problem.getErrors().get(0).getPointer().equals("/parameters/speaker_count"), problem);
        }
        System.out.println("submitted, waited, read, refused");
    }

    private static void check(boolean holds, Object otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }
}
