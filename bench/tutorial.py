"""The peer of `bench.api`: the same API written like the tutorials of FastAPI and SQLAlchemy, with an ORM session each.

`python -m bench.tutorial PORT` with `DATABASE_URL` set. Simple on purpose; the gateway does not use it.
"""

import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"), pool_size=10, max_overflow=10
)
make_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "tutorial_owners"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    token_sha256: Mapped[bytes] = mapped_column(unique=True)


class JobRow(Base):
    __tablename__ = "tutorial_jobs"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("tutorial_owners.id"), index=True)
    status: Mapped[str] = mapped_column(default="queued")
    model: Mapped[str]
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB)
    labels: Mapped[dict[str, str]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    files: Mapped[list["FileRow"]] = relationship(order_by="FileRow.index")


class FileRow(Base):
    __tablename__ = "tutorial_files"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("tutorial_jobs.id"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")


class NewJob(BaseModel):
    file_urls: list[str] = Field(min_length=1, max_length=10_000)
    model: str = "fun-asr"
    parameters: dict[str, Any] = {}
    metadata: dict[str, str] = {}


class ShownFile(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    index: int
    url: str
    status: str


class ShownJob(BaseModel):
    model_config = ConfigDict(from_attributes=True, populate_by_name=True)

    id: UUID
    status: str
    model: str
    parameters: dict[str, Any]
    metadata: dict[str, str] = Field(validation_alias="labels")
    created_at: datetime
    files: list[ShownFile]


async def get_session() -> AsyncIterator[AsyncSession]:
    async with make_session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


async def get_owner(
    session: SessionDep, credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]
) -> Owner:
    digest = hashlib.sha256(credentials.credentials.encode()).digest()
    owner = await session.scalar(select(Owner).where(Owner.token_sha256 == digest))
    if owner is None:
        raise HTTPException(401)
    return owner


OwnerDep = Annotated[Owner, Depends(get_owner)]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with make_session.begin() as session:
        session.add(Owner(token_sha256=hashlib.sha256(os.environ["API_TOKEN"].encode()).digest()))
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/v1/jobs", status_code=202, response_model=ShownJob)
async def create_job(new: NewJob, session: SessionDep, owner: OwnerDep) -> JobRow:
    files = [FileRow(index=index, url=url, status="queued") for index, url in enumerate(new.file_urls)]
    job = JobRow(
        owner_id=owner.id, model=new.model, parameters=new.parameters, labels=new.metadata, status="queued", files=files
    )
    session.add(job)
    await session.commit()
    await session.refresh(job, ["created_at", "files"])
    return job


@app.get("/v1/jobs", response_model=list[ShownJob])
async def list_jobs(session: SessionDep, owner: OwnerDep, limit: int = 50) -> list[JobRow]:
    query = select(JobRow).where(JobRow.owner_id == owner.id).options(selectinload(JobRow.files))
    return list(await session.scalars(query.order_by(JobRow.created_at.desc()).limit(limit)))


@app.get("/v1/jobs/{job_id}", response_model=ShownJob)
async def get_job(job_id: UUID, session: SessionDep, owner: OwnerDep) -> JobRow:
    query = select(JobRow).where(JobRow.id == job_id, JobRow.owner_id == owner.id).options(selectinload(JobRow.files))
    job = await session.scalar(query)
    if job is None:
        raise HTTPException(404)
    return job


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
