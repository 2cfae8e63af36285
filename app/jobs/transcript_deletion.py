"""`DELETE /v1/transcripts/{transcript_id}`. The call changes a job and a file, which `app.transcripts` must not do."""

from uuid import UUID

from fastapi import APIRouter, Response

from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.db import transaction
from app.errors import NotFound
from app.queue import retention
from app.transcripts.responses import StoredBodiesDep

router = APIRouter(prefix="/v1/transcripts", route_class=AuthenticatedRoute, tags=["transcripts"])


@router.delete(
    "/{transcript_id}",
    operation_id="deleteTranscript",
    summary="Delete a transcript",
    status_code=204,
    responses={204: {"description": "The transcript was deleted."}, **responses(NotFound)},
)
async def delete_transcript(transcript_id: UUID, client: ClientDep, bodies: StoredBodiesDep) -> Response:
    """Delete it for good. Its file stays `succeeded`, without a `transcript_id`.
    \f
    Two statements.
    """
    async with transaction(bodies.sessions) as session:
        await retention.delete_transcript(session, client.id, transcript_id)
    bodies.slices.forget_transcript(transcript_id)
    return Response(status_code=204)
